"""OpenVINO models: the constants of the graph that are weights, oriented, named and with their scales as the graph says.

graph.py   the XML -> layers and constants     uses.py   what uses a constant, which way round, and its name
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import prod
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.source import BITS
from modelkin_indexer.sources.openvino.graph import EXPORT_AGAIN, Constant, Graph, Layer, read_graphs
from modelkin_indexer.sources.openvino.uses import RECURRENT, Use, is_stored_turned, name_of, shape_of, use_of
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.stored.decoded import DecodedSource, Origin
from modelkin_indexer.sources.stored.extents import Extent, OpenFiles, StoredTensor
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, PICK, read_config
from modelkin_indexer.sources.stored.scales import PACKED, SCALED, Scales, fits

Floats = npt.NDArray[np.float32]
FLOATS = ("F64", "F32", "F16", "BF16")
NUMPY = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "F8_E8M0": ml_dtypes.float8_e8m0fnu}
INDICES = ("I64", "I32", "U64", "U32", "BOOL", "string")
MANY = 64  # smaller constants of whole numbers are no weights, whatever they are for
MAX_SMALL = 1 << 27  # bytes of scales, which are held in memory


def open_weights(weights: Weights) -> DecodedSource:
    """Open one model. Raises SourceError."""
    if len(weights.files) != 1:
        raise UnsupportedFormat("is made of shards", path=weights.path, remedy=f"OpenVINO models are one graph; {PICK}")
    path, files = weights.files[0], OpenFiles()
    try:
        number = files.open(path)
        graphs = read_graphs(files.descriptor(number), files.sizes[number], path)
        data = files.open(path.with_suffix(".bin"))
        tensors = _Tensors(files, data)
        stored = [tensor for graph in graphs for tensor in tensors.of(graph)]
        presented = {tensor.name: tensor.presented(files) for tensor in stored}
        unread = tuple(sorted(tensors.unread.items()))
        if not presented and unread:
            what = ", ".join(kind for kind, _ in unread[:5])
            raise UnsupportedFormat(f"holds nothing but weights that are not read ({what})", path=weights.path, remedy=EXPORT_AGAIN)
        config, notes = read_config(path.parent)
        origin = Origin(
            weights.path,
            weights.name,
            files.described(),
            config,
            (*weights.notes, *tensors.notes(), *notes),
            tensors.quantization(),
            files.sizes[number],
            unread=unread,
        )
        return DecodedSource(origin, presented, files.close)
    except BaseException:
        files.close()
        raise


class _Tensors:
    """The weights among the constants of the graphs of one file."""

    def __init__(self, files: OpenFiles, data: int) -> None:
        self._files, self._data = files, data
        self._path: Path = files.paths[data]
        self._taken: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self.unread: Counter[str] = Counter()
        self._seen: set[tuple[int, int]] = set()

    def of(self, graph: Graph) -> Iterator[StoredTensor]:
        """The weights of one graph. Raises SourceError."""
        found = [layer for layer in graph.values() if layer.constant is not None]
        uses = {layer.number: use_of(graph, layer, _is_scaled(layer.constant)) for layer in found}
        helpers = {(c.offset, c.size) for use in uses.values() for c in (*use.scale, use.zero) if c is not None}
        for layer in found:
            constant = layer.constant
            if constant is None or prod(constant.shape) < 2:
                continue
            extent, use = (constant.offset, constant.size), uses[layer.number]
            if extent in self._seen or extent in helpers:
                continue  # one set of bytes may be several constants
            tensor = self._tensor(graph, layer, constant, use)
            if tensor is not None:
                self._seen.add(extent)
                yield tensor

    def _tensor(self, graph: Graph, layer: Layer, constant: Constant, use: Use) -> StoredTensor | None:
        if constant.dtype in INDICES or (constant.dtype not in FLOATS and prod(constant.shape) < MANY):
            self._left_out[constant.dtype] += 1
            return None
        if constant.dtype not in FLOATS and (not use.scale or constant.dtype not in SCALED):
            op = "scales" if use.scale else use.node.op if use.node is not None else "no operator"
            self.unread[f"OpenVINO, {constant.dtype} of {op}"] += constant.size
            return None
        place = Extent(self._data, 0, 0)
        shape = shape_of(constant, use)
        name = self._named(name_of(layer, use, shape))
        place = self._files.extent(self._data, constant.offset, constant.size, name)
        scales = self._scales(constant, use, name) if use.scale else None
        if use.node is not None and use.node.op in RECURRENT and scales is None:
            return self._recurrent(constant, use, name, place)
        if scales is not None:
            self._kinds[constant.dtype.removeprefix("LOW_").lower()] += 1
        turned = len(shape) == 2 and is_stored_turned(use)
        return StoredTensor(name, constant.dtype, shape[::-1] if turned else shape, (place,), scales, turned)

    def _recurrent(self, constant: Constant, use: Use, name: str, place: Extent) -> StoredTensor | None:
        """Recurrent weights of one direction, with the gates in PyTorch's order."""
        ports, order = RECURRENT[use.node.op] if use.node is not None else ((), ())
        shape = constant.shape[1:] if constant.shape[:1] == (1,) and len(constant.shape) > 1 else constant.shape
        if use.port not in ports or not shape or shape[0] % len(order) or prod(shape) != prod(constant.shape):
            self.unread[f"OpenVINO, {constant.dtype} of {use.node.op if use.node is not None else ''}"] += constant.size
            return None
        size = place.length // len(order)
        parts = tuple(replace(place, start=place.start + at * size, length=size) for at in order)
        leaf = ("weight_ih_l0", "weight_hh_l0", "bias_l0")[ports.index(use.port)]
        own = name.endswith((".weight", ".bias")) and use.node is not None
        return StoredTensor(f"{name.rpartition('.')[0]}.{leaf}" if own else name, constant.dtype, shape, parts)

    def _scales(self, constant: Constant, use: Use, name: str) -> Scales:
        """What turns stored numbers into weights. Raises DamagedFile if it does not fit."""
        wide = len(constant.shape)
        scale = self._numbers(use.scale[0], name)
        for more in use.scale[1:]:
            scale = scale * self._numbers(more, name)
        zero = self._numbers(use.zero, name) if use.zero is not None else np.zeros((1,), np.float32)
        found = [np.asarray(one.reshape((1,) * max(0, wide - one.ndim) + one.shape), np.float32) for one in (scale, zero)]
        if not all(fits(constant.shape, one.shape) for one in found) or not all(np.isfinite(one).all() for one in found):
            raise DamagedFile("has scales and zero points that do not fit", path=self._path, tensor=name, remedy=FETCH_AGAIN)
        if any(1 < few < many for one in found for few, many in zip(one.shape, constant.shape, strict=True)):
            raise DamagedFile("has scales of another shape", path=self._path, tensor=name, remedy=FETCH_AGAIN)
        if found[1].shape != found[0].shape and found[1].size > 1:
            found = list(np.broadcast_arrays(*found))
        return Scales(constant.dtype, constant.shape, found[0], found[1])

    def _numbers(self, constant: Constant | None, name: str) -> Floats:
        """The numbers of a small constant."""
        if constant is None or constant.size > MAX_SMALL:
            raise UnsupportedFormat("has scales that are too large", path=self._path, tensor=name, remedy=EXPORT_AGAIN)
        count = prod(constant.shape)
        bits = BITS.get(constant.dtype) or (PACKED[constant.dtype][0] if constant.dtype in PACKED else 0)
        if not bits or constant.size != -(-count * bits // 8):
            raise DamagedFile("has scales of another size or type", path=self._path, tensor=name, remedy=FETCH_AGAIN)
        extent = self._files.extent(self._data, constant.offset, constant.size, name)
        raw = np.frombuffer(self._files.read(extent, name), np.uint8)
        if constant.dtype in NUMPY:
            return np.asarray(raw.view(NUMPY[constant.dtype]).astype(np.float32).reshape(constant.shape))
        if constant.dtype not in SCALED:
            raise DamagedFile("has scales of another type", path=self._path, tensor=name, remedy=FETCH_AGAIN)
        one = np.ones((1,), np.float32)
        plain = Scales(constant.dtype, (max(1, count),), one, 0 * one)
        return np.asarray(plain.decode(raw, 0, count).reshape(constant.shape))

    def _named(self, name: str) -> str:
        self._taken[name] += 1
        return name if self._taken[name] == 1 else f"{name}.{self._taken[name]}"

    def notes(self) -> tuple[str, ...]:
        """What was left out, for a person to know."""
        kinds = ", ".join(f"{count} {dtype}" for dtype, count in sorted(self._left_out.items()))
        return (f"Constants of the graph that are no weights were left out: {kinds}.",) if kinds else ()

    def quantization(self) -> str:
        """How most quantised weights are stored."""
        return f"OpenVINO {self._kinds.most_common(1)[0][0]}" if self._kinds else ""


def _is_scaled(constant: Constant | None) -> bool:
    return constant is not None and constant.dtype not in FLOATS
