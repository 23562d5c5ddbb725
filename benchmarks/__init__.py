"""Measurements that anyone can run again: `python -m benchmarks.FOLDER.NAME` from the root of the repository."""
