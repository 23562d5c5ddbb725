"""Small sound files of more containers, as bytes, written here so that every number of them can be made to lie."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import h5py
import numpy as np

Tensors = dict[str, Any]


def keras_bytes(tensors: Tensors, compressed: bool = False) -> bytes:
    """A `.weights.h5` of Keras 3: each matrix [out, in] as the kernel of a Dense layer of that name."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for number, (name, values) in enumerate(tensors.items()):
            group = file.create_group(f"layers/dense_{number}/vars")
            group.attrs["name"] = name.removesuffix(".weight")
            group.create_dataset("0", data=np.ascontiguousarray(values.T), compression="gzip" if compressed else None)
    return stream.getvalue()


def keras_archive(weights: bytes, name: str = "model.weights.h5", method: int = zipfile.ZIP_STORED) -> bytes:
    """A `.keras` archive around them."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", "{}")
        archive.writestr(name, weights)
    return stream.getvalue()
