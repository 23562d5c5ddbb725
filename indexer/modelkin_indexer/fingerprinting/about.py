"""What is known of a model beside its vectors: how much of it was read and understood, and what was not, by kind and bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from modelkin_indexer.adapters.presented import adapter_of
from modelkin_indexer.fingerprinting.left_out import LeftOut
from modelkin_indexer.fingerprinting.measure import MatrixMeasure, VectorMeasure
from modelkin_indexer.places import Anatomy, TensorInfo
from modelkin_indexer.results.fingerprint import UNDECODED, About
from modelkin_indexer.source import Source
from modelkin_indexer.sources.stored.shards import numbers_of
from modelkin_indexer.spec import Key

SMALL_SHARE = 0.01  # of a model's bytes, up to which constants are left out by their names alone
LARGEST = 2**53  # number of a config that is kept: whole ones up to here are numbers in every JSON
NAMED = 2  # tensors named for a kind
WHOLE = ("I4", "U4", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64")
CONFIG_FIELDS = (
    "model_type",
    "architectures",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "vocab_size",
)


def about(
    source: Source,
    anatomy: Anatomy,
    kept: Sequence[MatrixMeasure],
    vectors: Sequence[VectorMeasure],
    left: LeftOut,
    level: str,
    key: Key,
) -> About:
    """All of it."""
    weights = {name: info for name, info in source.tensors.items() if name not in left.constants}
    unplaced = [name for name in sorted({*anatomy.unplaced, *left.oversized}) if name in weights]
    unread, crowded = _unread(source, anatomy, weights, left), _crowded(weights, left)
    total, unknown, guessed = (_bytes(weights, names) for names in (weights, {*unplaced, *left.unusable, *crowded}, anatomy.guessed))
    more = _outside(source, unread, total)
    dtypes: Counter[str] = Counter()
    for info in weights.values():
        dtypes[info.dtype] += info.elements
    components = {m.piece.place.component for m in kept} | {v.place.component for v in vectors}
    return About(
        level=level,
        key=key.name,
        parameters=sum(info.elements for info in weights.values()),
        coverage=round(max(total - unknown - left.lost, 0) / (total + more), 6) if total + more else 0.0,
        bytes_total=_stored_bytes(source),
        bytes_read=source.bytes_read,
        components=tuple(sorted(components)),
        layers=dict(sorted(anatomy.layers.items())),
        dtypes=dict(sorted(dtypes.items())),
        unplaced=tuple(unplaced),
        constants=dict(sorted(left.constants.items())),
        quantization=_quantization(source),
        guessed=round(guessed / (total + more), 6) if total + more else 0.0,
        adapter=adapter_of(source),
        config={name: source.config[name] for name in CONFIG_FIELDS if _is_plain(source.config.get(name))},
        unread=tuple({"what": what, "bytes": size} for what, size in unread),
        shards=_shards(source),
    )


def _bytes(weights: Mapping[str, TensorInfo], names: Collection[str]) -> int:
    return sum(weights[name].nbytes for name in names if name in weights)


def _unread(source: Source, anatomy: Anatomy, weights: Mapping[str, TensorInfo], left: LeftOut) -> list[tuple[str, int]]:
    """What was not decoded, not understood or is no number, the largest first."""
    kinds: dict[str, list[str]] = {}
    for name in anatomy.packed:
        if name in weights:
            word = "whole numbers" if weights[name].dtype in WHOLE else "numbers"
            kinds.setdefault(f"{weights[name].dtype} {word} that no known scheme decodes", []).append(name)
    if left.oversized:
        kinds["vectors as large as matrices, whose layout is unknown"] = sorted(left.oversized)
    if crowded := _crowded(weights, left):
        kinds["vectors, more of a length than the matrices have sides"] = sorted(crowded)
    found = [(f"{kind}: {_listed(names)}", _bytes(weights, names)) for kind, names in kinds.items()]
    claimed = {name: size for name, size in anatomy.claimed.items() if left.constants.get(name) == anatomy.constants.get(name)}
    if sum(claimed.values()) > SMALL_SHARE * _bytes(weights, weights):
        found.append((f"left out by name alone: {_listed(sorted(claimed))}", sum(claimed.values())))
    return sorted([*source.unread, *found, *left.unread], key=lambda entry: (-entry[1], entry[0]))


def _crowded(weights: Mapping[str, TensorInfo], left: LeftOut) -> set[str]:
    """Vectors that are more than such a model has, where they are no small share of it; none of a file of vectors alone."""
    if all(sum(axis > 1 for axis in info.shape) < 2 for info in weights.values()):
        return set()
    return left.crowded if _bytes(weights, left.crowded) > SMALL_SHARE * _bytes(weights, weights) else set()


def _outside(source: Source, unread: Iterable[tuple[str, int]], total: int) -> int:
    """Bytes that were not read beside those of `weights`, in units of these: what is presented decoded has more bytes than are stored."""
    inside = total
    stored = sum(file.size for file in source.files)
    known = {what for what, _ in source.unread}
    not_stored = sum(size for what, size in unread if what in known)
    by_name = sum(size for what, size in unread if what.startswith("left out by name"))
    if source.quantization and stored > not_stored > 0:
        not_stored = int(not_stored * inside / (stored - not_stored))
    return not_stored + by_name


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _shards(source: Source) -> tuple[int, int] | None:
    """How many shards of how many were read, by their files' names; None where the model is whole or says nothing of shards."""
    names = [file.name for file in source.files]
    read, count = numbers_of(names)
    return (len(read), count) if 0 < len(read) < count else None


def _stored_bytes(source: Source) -> int:
    """Of plain numbers the tensors' bytes; where values are presented that are not what is stored, the files'."""
    if source.quantization or adapter_of(source):
        return sum(file.size for file in source.files)
    return sum(info.nbytes for info in source.tensors.values()) + sum(size for _, size in source.unread)


def _quantization(source: Source) -> str:
    """How the weights are stored, as the source decoded them or else as config.json says; "" for plain numbers."""
    if source.quantization:
        return source.quantization
    stated = source.config.get("quantization_config")
    if not isinstance(stated, dict):
        return ""
    words = [stated.get("quant_method"), stated.get("bits"), stated.get("fmt")]
    return (" ".join(str(word)[:16] for word in words if isinstance(word, (str, int))) or "unknown") + UNDECODED


def _is_plain(value: Any) -> bool:
    if isinstance(value, (int, float)):
        return abs(value) <= LARGEST  # JSON lets a number be no number, or too large for one
    return isinstance(value, str) or (isinstance(value, list) and len(value) <= 8 and all(isinstance(item, str) for item in value))
