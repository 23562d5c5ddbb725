"""Checkpoints and SavedModels of TensorFlow, read without it."""
