"""How llama.cpp names and changes the tensors of a model when it writes GGUF."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from msgspec import Struct

from modelkin_data.reading import read_text


class GgufNames(Struct, frozen=True):
    """The table `names/gguf.json`.

    prefixes        what a name begins with before its layer's number -> what the model's own publication writes there
    layers          by prefix: module inside a layer -> the publication's module; `#` is an expert's number
    outside         modules outside the layers
    permuted        architectures whose q and k rows take turns between the two halves of a head
    gains_plus_one  architectures whose stored norm gains are one larger than the publication's
    model_types     architecture -> model_type, where it is not the same word with `_` for `-`
    """

    prefixes: dict[str, str]
    layers: dict[str, dict[str, str]]
    outside: dict[str, str]
    permuted: frozenset[str]
    gains_plus_one: frozenset[str]
    model_types: dict[str, str]


@cache
def gguf_names() -> GgufNames:
    """The table. Raises TypeError where it has an unknown key or lacks one."""
    table: dict[str, Any] = json.loads(read_text("names/gguf.json"))
    del table["about"]
    for key in ("permuted", "gains_plus_one"):
        table[key] = frozenset(table[key])
    return GgufNames(**table)
