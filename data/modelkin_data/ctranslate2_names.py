"""How CTranslate2 names the tensors of a model when it converts one."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from msgspec import Struct

from modelkin_data.reading import read_text

Table = dict[str, dict[str, str]]


class Ctranslate2Names(Struct, frozen=True):
    """The table `names/ctranslate2.json`; the first key of each part is the kind of model (`pair`, `decoder`, `encoder`).

    prefixes   CTranslate2's first word -> what stands there in the model's own publication
    stacks     what the publication writes before the layer's number
    layers     modules inside a layer
    gated      modules that mean something else in a layer with `ffn/linear_0_noact`
    outside    modules outside the layers
    """

    prefixes: Table
    stacks: dict[str, str]
    layers: Table
    gated: Table
    outside: Table


@cache
def ctranslate2_names() -> Ctranslate2Names:
    """The table. Raises TypeError where it has an unknown key or lacks one."""
    table: dict[str, Any] = json.loads(read_text("names/ctranslate2.json"))
    del table["about"]
    return Ctranslate2Names(**table)
