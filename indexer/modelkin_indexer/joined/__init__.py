"""Matrices that are stored as two tensors, presented as one: products multiplied out, halves put together."""
