"""Tensors that are no weights, told by name, dtype and shape. Never by name alone: any weight could be hidden under a name."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from msgspec import Struct, field

from modelkin_data import ConstantRule, name_tables
from modelkin_indexer.places import TensorInfo

INTEGERS = ("I4", "U4", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "BOOL")  # never read as weights; I8 is
PACKED_DTYPES = ("F4", "F6_E2M3", "F6_E3M2", "F8_E8M0", *INTEGERS)
QUANTISED_DTYPES = (*PACKED_DTYPES, "I8", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ")
ROTARY_MODULE = re.compile(r"(?:rope|rotary)[^.]*\.")  # a part of a name: what is below it may be a rotary table
ROTARY_COLUMNS = 512  # most columns of a rotary table, one for each number of a head; weights are mostly wider
SCALE_BYTES = 4  # fewest bytes of a quantised weight for each scale (2 bits in groups of 16); copies of weights have more numbers


class SortedOut(Struct, frozen=True):
    """Every tensor of a model in one of three: `constants` with the reason, `packed` without readable numbers, `weights`.

    `doubtful` are those weights that are named like constants: what they are is unknown, whatever else the name says. `claims` are the
    constants that are told by their names, each with the form that its rule names; "" for scales without a quantised weight beside them.
    """

    constants: dict[str, str] = field(default_factory=dict)
    claims: dict[str, str] = field(default_factory=dict)
    packed: list[str] = field(default_factory=list)
    weights: dict[str, TensorInfo] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)


def sort_out(tensors: Mapping[str, TensorInfo], config: Mapping[str, Any], refuted: Collection[str] = ()) -> SortedOut:
    """The weights of a model, apart from what is none. `config` is its config.json, or empty.

    `refuted` are tensors whose values or sizes show that they are not what their names say.
    """
    found = SortedOut()
    quantised = _quantised_bytes(tensors, config)
    for name, info in tensors.items():
        match = _constant_pattern().search(name)
        rule = None if match is None else name_tables().constants[int(str(match.lastgroup)[1:])]
        if not info.elements:
            found.constants[name] = "holds no numbers"
        elif (
            match is not None
            and rule is not None
            and name not in refuted
            and _bears_out(info, rule, quantised.get(name[: match.start()], 0))
        ):
            beside = info.elements * SCALE_BYTES <= quantised.get(name[: match.start()], 0)
            found.constants[name], found.claims[name] = rule.reason, rule.form if rule.form != "scales" or beside else ""
        elif info.dtype in PACKED_DTYPES or _packed_pattern().search(name):
            found.packed.append(name)
        else:
            found.weights[name] = info
            if rule is not None and (not is_vector(info) or name in refuted):
                found.doubtful.add(name)
    return found


def _bears_out(info: TensorInfo, rule: ConstantRule, quantised: int) -> bool:
    """Whether dtype and shape are what the name says. `quantised` is the size of the weight in the same module, 0 if not quantised."""
    if rule.form == "mask":
        return _is_mask(info)
    if is_vector(info) or (info.dtype in INTEGERS and rule.form != "scales"):
        return True
    if rule.form == "rotary":
        return info.shape[-1] <= ROTARY_COLUMNS and ROTARY_MODULE.search(info.name) is not None
    return rule.form == "scales" and info.elements * SCALE_BYTES <= quantised


def is_vector(info: TensorInfo) -> bool:
    """Whether at most one axis is longer than 1."""
    return sum(axis > 1 for axis in info.shape) <= 1


def _is_mask(info: TensorInfo) -> bool:
    """[n, n] or [1, 1, n, n]; booleans and integers with any axes before."""
    *before, rows, columns = info.shape if len(info.shape) > 1 else (0, 1)
    return rows == columns and (before in ([], [1, 1]) or info.dtype in INTEGERS)


def _quantised_bytes(tensors: Mapping[str, TensorInfo], config: Mapping[str, Any]) -> dict[str, int]:
    """Size of the largest quantised weight by module. By the config they may be stored unpacked, and count as 8 bits a number."""
    stated = isinstance(config.get("quantization_config"), Mapping)
    sizes: dict[str, int] = {}
    for name, info in tensors.items():
        if _constant_pattern().search(name):
            continue
        quantised = info.dtype in QUANTISED_DTYPES or _packed_pattern().search(name)
        size = info.nbytes if quantised else info.elements if stated else 0
        module = name.rpartition(".")[0]
        sizes[module] = max(sizes.get(module, 0), size)
    return sizes


@cache
def _constant_pattern() -> re.Pattern[str]:
    rules = enumerate(name_tables().constants)
    groups = "|".join(f"(?P<c{index}>{rule.name.replace('.', chr(92) + '.')})" for index, rule in rules)
    return re.compile(rf"(?:^|\.)(?:{groups})$")


@cache
def _packed_pattern() -> re.Pattern[str]:
    return re.compile(rf"(?:^|\.)(?:{name_tables().packed})$")
