"""Containers of weights: one file or folder each, all listed in register.py."""
