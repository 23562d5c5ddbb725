"""Paddle's checkpoints: pickles of NumPy arrays, and the parameters of exported programs."""
