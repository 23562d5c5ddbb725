"""Keras models: HDF5 files of weights, alone or in a zip archive."""
