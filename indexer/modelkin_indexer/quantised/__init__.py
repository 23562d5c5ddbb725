"""Quantised weights: one file a scheme, all listed in schemes.py."""
