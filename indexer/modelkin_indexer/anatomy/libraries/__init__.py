"""Weights as other libraries name and lay them out."""
