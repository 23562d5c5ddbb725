"""What a graph of TFLite's does with its constants: which are kernels of convolutions, and which it turns before they are used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite as schema
from msgspec import Struct

from modelkin_indexer.sources.stored.decoded import Bytes, Decoder

OPERATORS = schema.BuiltinOperator
KERNEL = 1  # the input of an operator that takes its kernel
# Kernels are stored channels last. Axes of the stored kernel in the order of PyTorch's.
TURNED = {
    OPERATORS.CONV_2D: (0, 3, 1, 2),
    OPERATORS.DEPTHWISE_CONV_2D: (3, 0, 1, 2),
    OPERATORS.TRANSPOSE_CONV: (3, 0, 1, 2),
    OPERATORS.CONV_3D: (4, 3, 0, 1, 2),
}
ROTATION = b"aeq.hadamard_rotation"  # the operator by which the AI Edge Quantizer turns what a matrix reads, or a table gives
READS = {OPERATORS.FULLY_CONNECTED: KERNEL, OPERATORS.EMBEDDING_LOOKUP: KERNEL}  # operators whose constant may be turned
MOST_TURNED = 1 << 16  # numbers of a group that is turned together
TOLERANCE = 1e-3  # of a matrix's numbers, which are float32, float16 or rounded to bits that hold them without loss
Floats = npt.NDArray[np.float32]
Matrix = Callable[[int], Floats | None]  # a small constant's numbers


class Uses(Struct, frozen=True):
    """Of constants by their numbers: the order of kernels' axes, the size of the groups that are turned, and the matrices that do it."""

    axes: Mapping[int, tuple[int, ...]]
    turned: Mapping[int, int]
    turning: frozenset[int]


def codes_of(model: Any, count: int) -> list[tuple[int, bytes]]:
    """The kinds of operators: number, and name of those that are not TFLite's own. Older files keep the number in another field."""
    found = []
    for at in range(count):
        code = model.OperatorCodes(at)
        found.append((max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), code.CustomCode() or b""))
    return found


def uses(graph: Any, count: int, codes: list[tuple[int, bytes]], matrix: Matrix) -> Uses:
    """What the operators of a graph do with its constants."""
    made_of: dict[int, int] = {}
    makers: dict[int, Any] = {}
    readers: dict[int, list[Any]] = {}
    operators = [(graph.Operators(at), _kind(codes[graph.Operators(at).OpcodeIndex()])) for at in range(count)]
    for operator, kind in operators:
        if operator.OutputsLength():
            makers[operator.Outputs(0)] = operator, kind
        for at in range(operator.InputsLength()):
            readers.setdefault(operator.Inputs(at), []).append((operator, kind))
        if kind == OPERATORS.DEQUANTIZE and operator.InputsLength() and operator.OutputsLength():
            made_of[operator.Outputs(0)] = operator.Inputs(0)
    axes, turned, turning = {}, dict[int, int](), set[int]()
    for operator, kind in operators:
        if operator.InputsLength() <= KERNEL:
            continue
        kernel = made_of.get(operator.Inputs(KERNEL), operator.Inputs(KERNEL))
        if kind in TURNED:
            axes[kernel] = TURNED[kind]
        elif kind == OPERATORS.FULLY_CONNECTED:
            size, by = _before(operator.Inputs(0), makers, matrix)
            if size and kernel not in turning:
                turned[kernel] = size
                turning |= by
        elif kind == OPERATORS.EMBEDDING_LOOKUP and operator.OutputsLength():
            size, by = _after(operator.Outputs(0), readers, matrix)
            if size:
                turned[kernel] = size
                turning |= by
    return Uses(axes, {kernel: size for kernel, size in turned.items() if kernel not in turning}, frozenset(turning))


def _kind(code: tuple[int, bytes]) -> int:
    """The number of a kind; those that a tool wrote by their names alone too."""
    number, name = code
    known = getattr(OPERATORS, name.decode("ascii", "replace"), None) if name and number in (0, OPERATORS.CUSTOM) else None
    if name == ROTATION:
        return int(OPERATORS.CUSTOM)
    return known if isinstance(known, int) else number


def _before(tensor: int, makers: Mapping[int, Any], matrix: Matrix) -> tuple[int, set[int]]:
    """The size of the groups in which what makes a tensor turned them (0: not), and the matrix that did it."""
    operator, kind = makers.get(tensor, (None, -1))
    if operator is None:
        return 0, set()
    if kind == OPERATORS.CUSTOM:
        return _told(operator), set()
    if kind != OPERATORS.RESHAPE or not operator.InputsLength():
        return 0, set()
    return _matrix_of(makers.get(operator.Inputs(0), (None, -1)), matrix)


def _after(tensor: int, readers: Mapping[int, list[Any]], matrix: Matrix) -> tuple[int, set[int]]:
    """The same of what reads a tensor."""
    for operator, kind in readers.get(tensor, ()):
        if kind == OPERATORS.CUSTOM and (size := _told(operator)):
            return size, set()
        if kind == OPERATORS.RESHAPE and operator.OutputsLength():
            for other in readers.get(operator.Outputs(0), ()):
                size, by = _matrix_of(other, matrix)
                if size:
                    return size, by
    return 0, set()


def _matrix_of(found: Any, matrix: Matrix) -> tuple[int, set[int]]:
    """The size of a dense layer's matrix if that is a turn, else 0; and its number."""
    operator, kind = found
    if operator is None or kind != OPERATORS.FULLY_CONNECTED or operator.InputsLength() <= KERNEL:
        return 0, set()
    values = matrix(operator.Inputs(KERNEL))
    if values is None or values.ndim != 2 or not is_turn(values):
        return 0, set()
    return len(values), {operator.Inputs(KERNEL)}


def _told(operator: Any) -> int:
    """The size that the operator's own options tell: the last of them is a number called `hadamard_size`."""
    from flatbuffers import flexbuffers

    options = bytes(operator.CustomOptionsAsNumpy()) if 0 < operator.CustomOptionsLength() < 4096 else b""
    if b"hadamard_size" not in options:
        return 0
    found = flexbuffers.Loads(bytearray(options))
    size = found.get("hadamard_size", 0) if isinstance(found, dict) else 0
    return size if isinstance(size, int) and 2 <= size <= MOST_TURNED and size & (size - 1) == 0 else 0


def is_turn(matrix: Floats) -> bool:
    """Whether a matrix is the Hadamard matrix of Sylvester's order, each row of length 1."""
    size = len(matrix)
    if matrix.shape != (size, size) or size < 2 or size & (size - 1) or not np.isfinite(matrix).all():
        return False
    return bool(np.abs(turned(np.eye(size, dtype=np.float32), size) - matrix).max() < TOLERANCE / np.sqrt(size))


def turned(rows: Floats, size: int) -> Floats:
    """Each group of `size` numbers times the Hadamard matrix of Sylvester's order. Turned twice is not turned."""
    found, done = rows.reshape(-1, size), 1
    while done < size:
        pairs = found.reshape(-1, size // (2 * done), 2, done)
        found = np.stack((pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]), axis=2).reshape(-1, size)
        done *= 2
    back: Floats = (found / np.float32(np.sqrt(size))).astype(np.float32).reshape(rows.shape)
    return back


class TurnedBack(Struct, frozen=True):
    """Decodes numbers that were turned in groups of `size` (see `Decoder`); the ones below are float32."""

    stored: Decoder
    size: int

    @property
    def block_bytes(self) -> int:
        return 4 * self.size

    def decode(self, start: int, out: Bytes) -> int:
        count = self.stored.decode(start, out)
        out.view(np.float32)[:] = turned(out.view(np.float32), self.size)
        return count
