"""Arrays of Flax's modules, out of whatever file: which of them are weights, their names and layouts as PyTorch has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

from modelkin_indexer.errors import DamagedFile
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.source import BITS
from modelkin_indexer.sources.flax.array import Array
from modelkin_indexer.sources.flax.gates import fused
from modelkin_indexer.sources.kernels import Laid, laid, shown, spelt, width_of
from modelkin_indexer.sources.stored.decoded import Presented
from modelkin_indexer.sources.stored.files import FETCH_AGAIN
from modelkin_indexer.sources.stored.strided import Strided
from modelkin_indexer.sources.unstacked import slices_of

NOT_MODEL = ("opt_state", "optimizer", "ema_params", "optimizer_state")
COUNTERS = ("step", "rng", "key")  # of a training state, where they are numbers: modules of attention are called `key` too
PARAMS = ("params", "model", "target")  # where a training state keeps its weights
STATS = "batch_stats"
MAX_AXES = 32
DTYPES = {
    **{"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"},
    **{"int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8"},
    "bool": "BOOL",
}


def params(value: Any) -> Any:
    """The weights: the value itself, or what a training state keeps under a usual word."""
    while isinstance(value, dict):
        word = next((word for word in PARAMS if isinstance(value.get(word), dict)), None)
        state = {key for key, part in value.items() if key in NOT_MODEL or (key in COUNTERS and not isinstance(part, dict))}
        if word is None or not all(key in (word, STATS) or key in state for key in value):
            return {key: part for key, part in value.items() if key not in state}
        if STATS in value:
            return _joined(value[word], value[STATS])
        value = value[word]
    return value


def _joined(one: Any, two: Any) -> Any:
    """Two nested dictionaries as one."""
    if not (isinstance(one, dict) and isinstance(two, dict)):
        return one
    return {**two, **{key: _joined(part, two[key]) if key in two else part for key, part in one.items()}}


def presented(arrays: Sequence[Array], path: Path, unread: Counter[str]) -> dict[str, Presented]:
    """The tensors by name, layers that are stacked in one array one by one."""
    arrays = fused(_apart(arrays, path))
    width = width_of(Counter(array.shape[0] for array in arrays if array.path[-1:] == ("scale",) and len(array.shape) == 1))
    is_out_first = _outputs_first(arrays)
    found: dict[str, Presented] = {}
    for array in arrays:
        front, leaf = array.path[:-1], array.path[-1] if array.path else "array"
        leaf = {"mean": "running_mean", "var": "running_var"}.get(leaf, leaf)
        name = spelt(front, leaf)
        if array.dtype not in BITS:
            unread[f"Flax, {array.dtype}"] += array.nbytes
            continue
        if not array.shape or 0 in array.shape:
            continue  # a counter, or nothing
        if name in found:
            raise DamagedFile("is there twice", path=path, tensor=name, remedy=FETCH_AGAIN)
        lies = laid("/".join(front).lower(), leaf, array.shape, width)
        if is_out_first and len(array.shape) == 2:
            lies = Laid(array.shape)
        found[name] = shown(name, array.dtype, array.shape, lies, array.decoder, path)
    return found


def _apart(arrays: Sequence[Array], path: Path) -> list[Array]:
    """The arrays with every stacked layer by itself (see unstacked.py)."""
    named = {".".join(array.path): array for array in arrays if array.dtype in BITS and array.shape and 0 not in array.shape}
    infos = {name: TensorInfo(name, array.dtype, array.shape, prod(array.shape) * BITS[array.dtype] // 8) for name, array in named.items()}
    slices = slices_of(infos)
    stacked = {one.stored for one in slices.values()}
    found = [array for array in arrays if ".".join(array.path) not in stacked]
    for name, one in slices.items():
        info, array = infos[one.stored], named[one.stored]
        vector = Presented(TensorInfo(one.stored, info.dtype, (prod(info.shape),), info.nbytes), array.decoder)
        steps = [prod(info.shape[at + 1 :]) for at in range(len(info.shape))]
        start = one.number * steps.pop(one.axis)
        shape = (*info.shape[: one.axis], *info.shape[one.axis + 1 :])
        layer = Strided(vector, path, start, shape, tuple(steps))
        found.append(Array(tuple(name.split(".")), info.dtype, shape, info.nbytes // info.shape[one.axis], layer))
    return found


def _outputs_first(arrays: Sequence[Array]) -> bool:
    """Whether kernels are stored [out, in] for all their name, as GPT-2's are: told by biases, which are as long as there are outputs."""
    biases = {array.path[:-1]: array.shape for array in arrays if array.path[-1:] == ("bias",)}
    votes = 0
    for array in arrays:
        if array.path[-1:] == ("kernel",) and len(array.shape) == 2 and array.shape[0] != array.shape[1]:
            bias = biases.get(array.path[:-1])
            votes += (bias == array.shape[:1]) - (bias == array.shape[1:])
    return votes > 0
