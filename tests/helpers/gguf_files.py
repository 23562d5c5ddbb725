"""GGUF files made on the spot, with the changes that llama.cpp's converter makes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from modelkin_data.gguf_names import gguf_names
from models import Tensors

Array = npt.NDArray[Any]
F16, F32 = gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.F32
SETTINGS = {"embedding_length": 96, "block_count": 6, "attention.head_count": 6, "attention.head_count_kv": 6, "feed_forward_length": 160}


def permuted(weights: Array, heads: int) -> Array:
    """Rows of the two halves of each head take turns."""
    return np.ascontiguousarray(weights.reshape(heads, 2, -1, *weights.shape[1:]).swapaxes(1, 2)).reshape(weights.shape)


def gguf_name(name: str) -> str:
    """A Llama tensor's name in GGUF."""
    module, parameter = name.rsplit(".", 1)
    found = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", module)
    table = gguf_names()
    if found is None:
        return f"{next(key for key, value in table.outside.items() if value == module)}.{parameter}"
    inner = found[2].replace("post_attention_layernorm", "pre_feedforward_layernorm")
    return f"blk.{found[1]}.{next(key for key, value in table.layers['blk'].items() if value == inner)}.{parameter}"


def converted(tensors: Tensors, heads: int = 6) -> dict[str, Array]:
    """A Llama model's tensors as the converter writes them, in float32."""
    return {gguf_name(name): permuted(values, heads) if re.search(r"\.[qk]_proj\.", name) else values for name, values in tensors.items()}


def write(
    path: Path, tensors: dict[str, Array], kind: Any = F32, arch: str = "llama", settings: dict[str, Any] | None = None, **more: Any
) -> Path:
    """Write a file; matrices are quantised to `kind`. `settings` stand after the architecture's name, `more` as they are (__ for a dot)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, arch)
    for key, value in (SETTINGS if settings is None else settings).items():
        (writer.add_array if isinstance(value, list) else writer.add_uint32)(f"{arch}.{key}", value)
    for key, value in more.items():
        (writer.add_array if isinstance(value, list) else writer.add_uint32)(key.replace("__", "."), value)
    for name, values in tensors.items():
        chosen = kind if values.ndim > 1 else F32
        writer.add_tensor(name, gguf.quantize(np.ascontiguousarray(values, np.float32), chosen), raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
