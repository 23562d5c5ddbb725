"""Whether a fingerprint can be one: every field of its type, in its range, and in agreement with the others.

A fingerprint may come from a stranger. What passes here can be stored, searched and compared without surprise; whether it is of the weights
that it claims to be of nobody can tell from it. Each check raises ValueError naming the field.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from modelkin_indexer import spec
from modelkin_indexer.places import FAMILIES, NO_LAYER, Place
from modelkin_indexer.results.channels import CHANNELS, TABLE

Array = npt.NDArray[Any]
MAX_BYTES = 1 << 28  # of a fingerprint; a trillion-parameter mixture of experts takes about 10 MB
MAX_HEAD = 32 << 20  # bytes of its description, unpacked: 20,000 places take 2 MB
MAX_HEADER_MARKS = 1 << 14  # commas and brackets of the file's own header: it has some 40 entries
MAX_MARKS = 1 << 22  # the same of the description: 20,000 places have 160,000. Parsed, so many make 400 MB
MAX_COUNT = 1 << 53  # of parameters or bytes
MAX_LAYERS = (1 << 15) - 1  # search rows keep a layer in 16 bits
MAX_SIDE = (1 << 31) - 1  # rows or columns of a matrix, numbers of a vector
MAX_EXPERTS = (1 << 15) - 1  # of one layer
MAX_TEXT = 4096  # characters of a tensor's name
MAX_WORD = 256  # characters of a type, key or kind of quantisation
MAX_CONFIG = 64  # fields
UNIT_TOLERANCE = 1e-2  # how far from 1 the length of a sketch may be: half precision is off by up to 4e-4 (starter registry)
COMPONENT = re.compile(r"[a-z][a-z0-9_.-]{0,31}")  # as the registry names search rows
KNOWN_LAYOUTS = 256  # tuples of places remembered as sound

# What a column holds: kinds of numpy types, least, most, and whether NaN says that nothing is known.
Column = tuple[str, float, float, bool]
SHARE: Column = ("f", 0, 1, False)
FINITE = sys.float_info.max
SIZE: Column = ("f", 0, FINITE, False)
MAYBE: Column = ("f", 0, FINITE, True)
COLUMNS: Mapping[str, Mapping[str, Column]] = {
    "matrices": {
        "rows": ("iu", 1, MAX_SIDE, False),
        "columns": ("iu", 1, MAX_SIDE, False),
        "side": ("iu", 0, 2, False),
        "experts": ("iu", 1, MAX_EXPERTS, False),
        "bits": ("iu", 1, 64, False),
        "mean": ("f", -FINITE, FINITE, False),
        "sd": SIZE,
        "zeros": SHARE,
        "distinct": SHARE,
        "seen": ("iu", 0, MAX_SIDE, False),
        "kurtosis": MAYBE,
        "column_spread": MAYBE,
        "row_spread": MAYBE,
        "spectrum": MAYBE,
        "scale": SIZE,
        "top": ("iu", -1, MAX_SIDE, False),
    },
    "vectors": {
        "length": ("iu", 1, MAX_SIDE, False),
        "mean": ("f", -FINITE, FINITE, False),
        "sd": SIZE,
        "scale": SIZE,
        "constant": ("b", 0, 1, False),
    },
    "experts": {"expert": ("iu", 0, MAX_EXPERTS, False)},
}
# Columns of several numbers a row, and the kinds of their types.
WIDE = {**dict.fromkeys((*CHANNELS, "sketch", "quantiles"), "f"), **dict.fromkeys(("digest", "numbers", "blocks"), "u"), "readings": "i"}
UNITS = (*CHANNELS, "sketch")
FULL_ONLY = (*(one.name for one in TABLE if one.full), "digest", "numbers", "blocks", "readings")  # columns that level probe has not


def check_bytes(data: bytes) -> None:
    """Whether a file may be read into memory at all. Its header is looked at before it is parsed."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"{len(data):,} bytes are more than a fingerprint has")
    header = data[8 : 8 + int.from_bytes(data[:8], "little")]
    if header.count(b",") + header.count(b"[") > MAX_HEADER_MARKS:
        raise ValueError("its header has more entries than a fingerprint's")


def parsed(head: bytes) -> Any:
    """The description, unless it is too much for memory or holds what is no number."""
    if len(head) > MAX_HEAD or sum(map(head.count, (b",", b"[", b"{"))) > MAX_MARKS:
        raise ValueError("its description is larger than a fingerprint's")
    return json.loads(head, parse_constant=_no_number)


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


def check(about: Any, tables: Mapping[str, Any]) -> None:
    """Everything of a fingerprint whose tables have the right columns and rows: see the module."""
    for name, table in tables.items():
        _need(name == "experts" or _in_order(table.places), f"{name}.places", "places that are not in order")
        _columns(name, table)
    _about(about)
    _levels(about.level, tables)
    _sizes(about, tables)
    _layers(about, tables)


def check_place(place: Place) -> None:
    """A place whose parts are of their types. To be called before places are kept for others: 1.0 and True would pass for layer 1."""
    component, layer, family, role = place
    _need(isinstance(component, str) and COMPONENT.fullmatch(component) is not None, "places", component)
    _need(type(layer) is int and NO_LAYER <= layer <= MAX_LAYERS, "places", layer)
    _need(family in FAMILIES, "places", family)
    _need(_is_text(role, MAX_TEXT), "places", role)


@lru_cache(maxsize=KNOWN_LAYOUTS)
def _in_order(places: tuple[Place, ...]) -> bool:
    return all(a < b for a, b in pairwise(places))


def _columns(name: str, table: Any) -> None:
    if not len(table.places):
        return
    for column, (kinds, least, most, may_be_unknown) in COLUMNS[name].items():
        values = getattr(table, column)
        if values.ndim != 1 or values.dtype.kind not in kinds:
            raise ValueError(f"{name}.{column}: {values.dtype} of shape {values.shape}")
        low, high = (np.fmin.reduce(values), np.fmax.reduce(values)) if may_be_unknown else (values.min(), values.max())
        is_unknown = may_be_unknown and bool(np.isnan(low))
        _need(is_unknown or least <= float(low) <= float(high) <= most, name, f"{column} out of range")
    for column, kind in WIDE.items():
        values = getattr(table, column, None)
        if values is None or not values.size:
            continue
        if values.dtype.kind != kind:
            raise ValueError(f"{name}.{column}: {values.dtype}")
        if column in UNITS:
            _unit(f"{name}.{column}", values.reshape(-1, spec.EXPERT_NUMBERS) if name == "experts" else values)
    if name == "vectors":
        rising = bool((table.quantiles[:, 1:] >= table.quantiles[:, :-1]).all() and np.isfinite(table.quantiles[:, [0, -1]]).all())
        _need(rising, "vectors.quantiles", "quantiles that fall, or are not finite")


def _unit(where: str, rows: Array) -> None:
    """Sketches have length 1, or say nothing."""
    wide = rows.astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    _need(bool(((lengths == 0) | (np.abs(lengths - 1) <= UNIT_TOLERANCE)).all()), where, "a sketch that is no unit vector")


def _about(about: Any) -> None:
    _need(about.level in spec.LEVELS, "level", about.level)
    for field in ("key", "spec"):
        _need(_is_text(getattr(about, field), MAX_WORD) and getattr(about, field).isprintable(), field, getattr(about, field))
    for field in ("parameters", "bytes_total", "bytes_read"):
        _need(_is_count(getattr(about, field)), field, getattr(about, field))
    for field in ("coverage", "guessed"):
        _need(_is_share(getattr(about, field)), field, getattr(about, field))
    _need(_is_text(about.quantization, MAX_WORD), "quantization", about.quantization)
    _need(all(_is_text(name, MAX_TEXT) for name in about.unplaced), "unplaced", "a name that is none")
    _mapping("layers", about.layers, _is_layer)
    _mapping("dtypes", about.dtypes, _is_count)
    _mapping("constants", about.constants or {}, lambda reason: _is_text(reason, MAX_TEXT))
    for field, is_right in (("config", _is_plain), ("adapter", _is_scalar)):
        given = getattr(about, field)
        _mapping(field, {} if given is None else given, is_right)
        _need(given is None or len(given) <= MAX_CONFIG, field, "more fields than there are")


def _levels(level: str, tables: Mapping[str, Any]) -> None:
    """Level probe has no more than it read; level full has a digest of every matrix."""
    matrices = tables["matrices"]
    if level == "probe":
        _need(not any(getattr(matrices, column).shape[1] for column in FULL_ONLY), "matrices", "columns of level full at level probe")
        _need(not len(tables["experts"].places), "experts", "single experts at level probe")
    else:
        _need(not len(matrices.places) or matrices.digest.shape[1] > 0, "matrices.digest", "level full without digests")


def _sizes(about: Any, tables: Mapping[str, Any]) -> None:
    """Places hold no more numbers than the model has, and stacks are of equal matrices."""
    matrices, vectors = tables["matrices"], tables["vectors"]
    rows, columns = matrices.rows.astype(np.float64), matrices.columns.astype(np.float64)  # products of forged sizes leave 64 bits
    held = float((rows * columns).sum()) + float(vectors.length.astype(np.float64).sum())
    _need(held <= about.parameters, "parameters", f"{about.parameters:,}, fewer than the places hold")
    if len(matrices.places):
        _need(not (matrices.rows % matrices.experts).any(), "matrices.experts", "rows that the experts do not share out")


def _layers(about: Any, tables: Mapping[str, Any]) -> None:
    """Components are those of the places, and have as many layers as these stand in."""
    highest: dict[str, int] = {}
    for table in tables.values():
        for component, layer in _depths(table.places):
            highest[component] = max(layer, highest.get(component, NO_LAYER))
    given: Sequence[Any] = about.components
    _need(len(set(given)) == len(given) and set(given) == set(highest), "components", given)
    for component, layer in highest.items():
        _need(layer < max(about.layers.get(component, 0), 0), "layers", about.layers) if layer != NO_LAYER else None


@lru_cache(maxsize=KNOWN_LAYOUTS)
def _depths(places: tuple[Place, ...]) -> tuple[tuple[str, int], ...]:
    """Each component and its last layer."""
    found: dict[str, int] = {}
    for place in places:
        found[place.component] = max(place.layer, found.get(place.component, NO_LAYER))
    return tuple(found.items())


def _mapping(field: str, given: Any, is_right: Callable[[Any], bool]) -> None:
    _need(isinstance(given, dict), field, given)
    for name, value in given.items():
        _need(_is_text(name, MAX_TEXT) and is_right(value), field, f"{name}: {value}")


def _is_text(value: Any, most: int) -> bool:
    if not isinstance(value, str) or len(value) > most:
        return False
    return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)  # a lone surrogate is no text


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_COUNT


def _is_layer(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_LAYERS


def _is_share(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= MAX_CONFIG and all(_is_text(item, MAX_TEXT) for item in value)
    return _is_scalar(value)


def _is_scalar(value: Any) -> bool:
    is_number = type(value) in (int, float) and math.isfinite(value) and abs(value) <= MAX_COUNT
    return value is None or isinstance(value, bool) or is_number or _is_text(value, MAX_TEXT)


def _need(is_right: bool, field: str, found: object) -> None:
    if not is_right:
        raise ValueError(f"{field}: {str(found)[:200]!r}")
