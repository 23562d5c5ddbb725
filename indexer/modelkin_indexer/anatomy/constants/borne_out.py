"""Constants that are told by their names, and whether what they hold and how large they are bears it out: weights could be hidden there."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from math import prod

import numpy as np
from msgspec.structs import replace

from modelkin_indexer.anatomy.constants.buffers import INTEGERS, SCALE_BYTES, SortedOut, is_vector, sort_out
from modelkin_indexer.anatomy.constants.fixed_tables import integer_reason, order_reason, rows_reason, table_reason
from modelkin_indexer.anatomy.constants.table_reading import whole_tensor
from modelkin_indexer.places import TensorInfo, View
from modelkin_indexer.source import BITS, Source
from modelkin_indexer.sources.stored import values

FEW = 64  # numbers that hide nothing
READ_WHOLE = 1 << 16  # numbers of a claimed table that are all looked at; of a larger one some rows
BLOCKS, BLOCK_ROWS = 4, 8  # read of a large tensor to see whether its contents bear out its name
SHORT = 4096  # numbers of a vector that need no matrix beside it with an axis as long
VECTORS_EACH = 4  # of one length, for each matrix with a side that it divides: a bias, a gain and two statistics (mechanism)
ORDER = "order"  # the form of rows' numbers in any order: told by what they hold, which may be the ranks of as many weights
STATISTICS = ("running_mean", "running_var")


def borne_out(source: Source) -> SortedOut:
    """The tensors of one model sorted out, without the claims that what they hold or how large they are refutes."""
    found = sort_out(source.tensors, source.config)
    packed = max((source.tensors[name].nbytes for name in found.packed), default=0)
    longest = max(longest_axis(found.weights), packed // SCALE_BYTES)
    borne = {name: _bearing(source, source.tensors[name], form, longest) for name, form in found.claims.items()}
    if refuted := {name for name, form in borne.items() if form is None}:
        found = sort_out(source.tensors, source.config, refuted)
    return replace(found, claims={name: borne[name] or "" for name in found.claims})


def longest_axis(weights: Mapping[str, TensorInfo]) -> int:
    """Numbers in the longest row or column of a model's matrices: no gain or bias has more."""
    axes = [axis for info in weights.values() if not is_vector(info) for axis in (*info.shape, prod(info.shape[1:]))]
    return max([SHORT, *axes])


def _bearing(source: Source, info: TensorInfo, form: str, longest: int) -> str | None:
    """The form that a claim has by what its tensor holds and how large it is, None if that refutes it."""
    if info.elements <= FEW or (form == "scales" and not is_vector(info)):
        return form
    if is_vector(info) and info.dtype not in INTEGERS:
        return form if info.elements <= longest and _like_its_sibling(source.tensors, info) else None
    if info.dtype not in INTEGERS and form != "mask":
        return form
    if info.dtype not in BITS:
        return None
    if _reason(source, info):
        return form
    is_order = info.dtype in INTEGERS and is_vector(info) and info.elements <= longest and order_reason(whole_tensor(source, info))
    return ORDER if is_order else None


def _like_its_sibling(tensors: Mapping[str, TensorInfo], info: TensorInfo) -> bool:
    """Running statistics are as many as the gains that stand beside them."""
    module, _, ending = info.name.rpartition(".")
    sibling = tensors.get(f"{module}.weight")
    return ending not in STATISTICS or sibling is None or not is_vector(sibling) or sibling.elements == info.elements


def _reason(source: Source, info: TensorInfo) -> str:
    """Why a tensor is an index table or a mask by what it holds."""
    whole = integer_reason if info.dtype in INTEGERS else table_reason
    if info.elements <= READ_WHOLE or info.transposed:
        return whole(whole_tensor(source, info))
    columns = info.shape[-1]
    rows = info.elements // columns
    if rows < BLOCKS * BLOCK_ROWS:
        return whole(whole_tensor(source, info))
    starts = [int(block * (rows - BLOCK_ROWS) / (BLOCKS - 1)) for block in range(BLOCKS)]
    view = View(info.name, 0, (rows, columns), (columns, 1))
    some = [values.read_rows(source, view, start, start + BLOCK_ROWS) for start in starts]
    numbers = np.concatenate([np.arange(start, start + BLOCK_ROWS) for start in starts])
    return rows_reason(np.concatenate(some), numbers)


def by_name_alone(found: SortedOut, tensors: Mapping[str, TensorInfo]) -> dict[str, int]:
    """Constants that nothing but their name tells, with their sizes in bytes.

    Running statistics are told by the gains beside them, as many as the model's matrices can have; scales by a quantised weight.
    """
    told, statistics = [], []
    for name, form in found.claims.items():
        if name.endswith(STATISTICS) and name.rpartition(".")[0] + ".weight" in tensors:
            statistics.append(name)
        elif form == ORDER or (tensors[name].dtype not in INTEGERS and form not in ("mask", "scales")):
            told.append(name)
    told += beyond(statistics, tensors)
    return {name: tensors[name].nbytes for name in sorted(told)}


def beyond(vectors: Iterable[str], tensors: Mapping[str, TensorInfo]) -> list[str]:
    """Which of these vectors are more than a model with these matrices has: each has a few, as long as a side of it or a part of that."""
    sides = Counter(side for info in tensors.values() if not is_vector(info) for side in set(info.shape))
    lengths: dict[int, list[str]] = defaultdict(list)
    for name in vectors:
        if tensors[name].elements > FEW:
            lengths[tensors[name].elements].append(name)
    most = {length: VECTORS_EACH * sum(count for side, count in sides.items() if side % length == 0) for length in lengths}
    return [name for length, names in lengths.items() for name in names[most[length] :]]
