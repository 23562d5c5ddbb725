"""Adapters: what their config says, and the changes of weights that they make."""
