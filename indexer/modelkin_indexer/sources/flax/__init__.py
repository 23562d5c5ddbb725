"""Weights of JAX libraries: Flax msgpack files and Orbax checkpoints."""
