"""CTranslate2's names as the model's own publication has them."""

from __future__ import annotations

import re
from collections.abc import Collection

from modelkin_data.ctranslate2_names import ctranslate2_names

PARAMETERS = {"gamma": "weight", "beta": "bias"}
HEAD = "lm_head"
GATE = "ffn/linear_0_noact"
_LAYER = re.compile(r"(encoder|decoder)/layer_(\d{1,5})/(.+)")


def renamed(name: str, names: Collection[str]) -> tuple[str, ...]:
    """The published names of what a variable holds, one after the other. `names` are all of the model's."""
    table, kind = ctranslate2_names(), _kind(names)
    module, _, parameter = name.rpartition("/")
    parameter = PARAMETERS.get(parameter, parameter)
    found = _LAYER.fullmatch(module)
    if found is not None:
        side, inside, known = found[1], found[3], dict(table.layers[kind])
        if f"{found[1]}/layer_{found[2]}/{GATE}/weight" in names:
            known |= table.gated[kind]
        before = _joined(table.prefixes[kind].get(side, ""), table.stacks[kind], found[2])
    else:
        side, _, inside = module.partition("/")
        known, before = table.outside[kind], table.prefixes[kind].get(side, "")
    whole = known.get(f"{inside}/{parameter}")
    if whole is not None:
        return (_joined(before, whole),)
    parts = known.get(inside, inside.replace("/", ".")).split("|")
    return tuple(_joined("" if part == HEAD else before, part, parameter) for part in parts)


def _kind(names: Collection[str]) -> str:
    sides = {name.partition("/")[0] for name in names}
    return "pair" if sides >= {"encoder", "decoder"} else "decoder" if "decoder" in sides else "encoder"


def _joined(*parts: str) -> str:
    return ".".join(part for part in parts if part)
