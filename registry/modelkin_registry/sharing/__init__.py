"""Registries as single files: written by one, taken in by another."""
