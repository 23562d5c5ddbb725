"""CoreML's ML Programs (`.mlpackage`, or the `model.mlmodel` inside): constants that are weights, with their scales.

program.py   the protobuf -> operations and where their values are     blobs.py   the file of weights
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from math import prod
from pathlib import Path

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.sources.coreml.blobs import Blobs
from modelkin_indexer.sources.coreml.palettes import KIND, Palettised, palettised
from modelkin_indexer.sources.coreml.program import MAX_OPERATIONS, Operation, Value, is_true, operations
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.stored.decoded import DecodedSource, Origin
from modelkin_indexer.sources.stored.extents import OpenFiles, StoredTensor
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, PICK, read_exact
from modelkin_indexer.sources.stored.scales import SCALED

WEIGHTS = Path("weights") / "weight.bin"
MAX_PROGRAM = 64_000_000  # bytes of a program; those of large public models have 5 MB
FLOATS = ("F64", "F32", "F16", "BF16")
SCALES = {"constexpr_blockwise_shift_scale": ("data", "offset"), "constexpr_affine_dequantize": ("quantized_data", "zero_point")}
MADE_UP = re.compile(r"_bias_0(?:_to_fp16)?$")  # zeros that the converter gives a layer without an offset
TAILS = ("_quantized", "_palettized", "_sparsified", "_to_fp16")
CONVERT = "Convert it again with coremltools as an ML Program, or get another form of the model."


def open_weights(weights: Weights) -> DecodedSource:
    """Open one program. Raises SourceError."""
    if len(weights.files) != 1:
        raise UnsupportedFormat("is made of shards", path=weights.path, remedy=f"CoreML models are one program; {PICK}")
    path, files = weights.files[0], OpenFiles()
    try:
        number = files.open(path)
        size = files.sizes[number]
        if size > MAX_PROGRAM:
            raise UnsupportedFormat(f"has {size:,} bytes, more than {MAX_PROGRAM:,}", path=path, remedy=CONVERT)
        try:
            found = operations(bytes(read_exact(files.descriptor(number), 0, size, path)))
        except (ValueError, RecursionError) as error:
            raise DamagedFile(f"is no sound CoreML model ({error})", path=path, remedy=FETCH_AGAIN) from error
        if found is None:
            raise UnsupportedFormat("is a CoreML model of the older form, or none; only ML Programs are read", path=path, remedy=CONVERT)
        tensors = _Tensors(found, Blobs(files, path.parent / WEIGHTS))
        presented = {tensor.name: tensor.presented(files) for tensor in tensors.all()}
        unread = tuple(sorted(tensors.unread.items()))
        if not presented and unread:
            what = ", ".join(kind for kind, _ in unread[:5])
            raise UnsupportedFormat(f"holds nothing but weights that are not read ({what})", path=path, remedy=CONVERT)
        origin = Origin(
            weights.path,
            weights.name,
            files.described(),
            {},
            weights.notes,
            f"CoreML {tensors.kinds.most_common(1)[0][0]}" if tensors.kinds else "",
            size,
            unread=unread,
        )
        return DecodedSource(origin, presented, files.close)
    except BaseException:
        files.close()
        raise


class _Tensors:
    """The weights among the constants of a program."""

    def __init__(self, found: list[Operation], blobs: Blobs) -> None:
        self._operations, self._blobs = found[:MAX_OPERATIONS], blobs
        self._made = {operation.output: operation for operation in found}
        self._turned = set(self._stored_turned())
        self._taken: Counter[str] = Counter()
        self.unread: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()

    def all(self) -> Iterator[StoredTensor | Palettised]:
        """The weights, in the program's order. Raises SourceError."""
        for operation in self._operations:
            if operation.kind == "const" and (value := operation.values.get("val")) is not None and value.blob is not None:
                if MADE_UP.search(operation.output) and len(value.shape) == 1 and self._blobs.is_zero(value):
                    continue
                if value.dtype in FLOATS and prod(value.shape) > 1:
                    yield self._tensor(operation, value)
                elif prod(value.shape) > 64:  # smaller ones of whole numbers are indices
                    self.unread[f"CoreML, {value.dtype}"] += self._blobs.extent(value).length
            elif operation.kind in SCALES:
                yield from self._scaled(operation)
            elif operation.kind == KIND and (found := self._palettised(operation)) is not None:
                yield found
            elif operation.kind.startswith("constexpr_"):
                size = sum(self._blobs.extent(value).length for value in operation.values.values() if value.blob is not None)
                self.unread[f"CoreML, {operation.kind.removeprefix('constexpr_')}"] += size

    def _tensor(self, operation: Operation, value: Value) -> StoredTensor:
        shape, turned = value.shape, operation.output in self._turned and len(value.shape) == 2
        if len(shape) > 1 and prod(shape) == max(shape):
            shape = (prod(shape),)
        return StoredTensor(
            self._name(operation), value.dtype, shape[::-1] if turned else shape, (self._blobs.extent(value),), None, turned
        )

    def _scaled(self, operation: Operation) -> Iterator[StoredTensor]:
        """Whole numbers with their scales."""
        data, zero = SCALES[operation.kind]
        value, scale = operation.values.get(data), operation.values.get("scale")
        if value is None or scale is None or value.blob is None or value.dtype not in SCALED:
            size = self._blobs.extent(value).length if value is not None and value.blob is not None else 0
            self.unread[f"CoreML, {value.dtype if value is not None else ''} of {operation.kind.removeprefix('constexpr_')}"] += size
            return
        name = self._name(operation)
        scales = self._blobs.scales(value, scale, operation.values.get(zero), operation.values.get("axis"), name)
        turned = operation.output in self._turned and len(value.shape) == 2
        self.kinds[value.dtype.lower()] += 1
        shape = value.shape[::-1] if turned else value.shape
        yield StoredTensor(name, value.dtype, shape, (self._blobs.extent(value),), scales, turned)

    def _palettised(self, operation: Operation) -> Palettised | None:
        """What stands in a table. None of what is counted as unread."""
        name = self._name(operation)
        found = palettised(operation, name, self._blobs, operation.output in self._turned)
        if found is not None:
            self.kinds[f"palette of {found.bits} bits"] += 1
        return found

    def _stored_turned(self) -> Iterator[str]:
        """Names of matrices [in, out]: those that a product takes as they are, at its right."""
        for operation in self._operations:
            if operation.kind == "matmul":
                for side, flag in (("y", "transpose_y"), ("x", "transpose_x")):
                    said = self._made.get(operation.inputs.get(flag, ""))
                    value = operation.values.get(flag) or (said.values.get("val") if said is not None else None)
                    if is_true(value) == (side == "x"):
                        yield operation.inputs.get(side, "")

    def _name(self, operation: Operation) -> str:
        name = "".join(letter if letter.isprintable() else "?" for letter in operation.output)[:1000]
        for tail in TAILS:
            name = name.removesuffix(tail)
        self._taken[name] += 1
        return name if self._taken[name] == 1 else f"{name}.{self._taken[name]}"
