"""Weights in, fingerprint out. Knows no registry."""
