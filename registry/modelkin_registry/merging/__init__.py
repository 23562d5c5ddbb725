"""Merges taken apart: which registered models, in which proportion, in which layers, explain a model better than any of them alone."""
