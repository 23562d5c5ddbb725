"""What a PyTorch checkpoint holds: which of its nested dictionaries is the state dict, and the tensors in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.sources.pytorch.inert_pickle import SAVE_AGAIN, Call, Global, Persistent

# Words for a number's type: of storages, and of the dtypes that newer files give apart.
STORAGES = {
    **{"DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16", "UntypedStorage": "U8"},
    **{"LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8", "BoolStorage": "BOOL"},
}
DTYPES = {
    **{"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"},
    **{"float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ"},
    **{"int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8"},
    **{"float8_e8m0fnu": "F8_E8M0", "bool": "BOOL"},
}
# Complex numbers are presented as pairs, the last axis real and imaginary part.
COMPLEX = {"ComplexFloatStorage": "F32", "complex64": "F32", "ComplexDoubleStorage": "F64", "complex128": "F64"}
FLOATS = {"F64", "F32", "F16", "BF16"}
UTILS = "torch._utils."
TENSORS = {UTILS + "_rebuild_tensor": 4, UTILS + "_rebuild_tensor_v2": 4, UTILS + "_rebuild_tensor_v3": 7}  # arguments that are needed
PARAMETERS = {UTILS + "_rebuild_parameter", UTILS + "_rebuild_parameter_with_state"}
TYPED = "torch._tensor._rebuild_from_type_v2"
WRAPPED, TORCHAO = UTILS + "_rebuild_wrapper_subclass", "torchao."  # a tensor made of others, under their names
MAIN = ("qdata", "qdata_and_metadata")  # one of them holds the numbers of a weight of torchao's
REFUSED = {
    UTILS + "_rebuild_qtensor": "quantised by torch",
    UTILS + "_rebuild_sparse_tensor": "sparse",
    UTILS + "_rebuild_nested_tensor": "nested",
    UTILS + "_rebuild_meta_tensor_no_storage": "on the meta device, without values",
    WRAPPED: "of a tensor class of its own",
    UTILS + "_rebuild_device_tensor_from_numpy": "kept as a numpy array",
    UTILS + "_rebuild_device_tensor_from_cpu_tensor": "of another device",
}
# What may be named in a checkpoint beside tensors; none of it is ever made. Modules are dictionaries of tensors here.
HARMLESS = {
    *("collections.OrderedDict", "collections.defaultdict", "collections.Counter", "torch.Size", "torch.device", "torch.Tensor"),
    *("torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer", "torch.serialization._get_layout", "torch.FloatTensor"),
    *("torch._tensor.Tensor", "_codecs.encode", "builtins.set", "builtins.dict", "builtins.list", "builtins.int", "builtins.float"),
    *("builtins.bytearray", "builtins.complex", "__builtin__.set", "__builtin__.dict", "__builtin__.list", "__builtin__.int"),
    *("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype", "numpy.ndarray", "argparse.Namespace"),
    *("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct", "datetime.datetime", "datetime.timedelta"),
    *("pathlib.PosixPath", "pathlib.WindowsPath", "pathlib.PurePosixPath", "pathlib._local.PosixPath"),
    *("torch.jit._pickle.build_intlist", "torch.jit._pickle.build_tensorlist", "torch.jit._pickle.build_doublelist"),
    *("torch.jit._pickle.build_boollist", "torch.jit._pickle.restore_type_tag"),
}
HARMLESS_PREFIXES = ("torch.nn.modules.", "__torch__.", "numpy.dtypes.", TORCHAO)
# Where a checkpoint keeps its weights, the first that is there; and what else it may hold that is not the model.
WEIGHTS = ("state_dict", "model_state_dict", "model_state", "model", "module", "params_ema", "params", "net", "network", "weights")
LEFT_OUT = ("optim", "sched", "scaler", "ema", "rng", "callbacks", "loops", "amp", "hyper_parameters", "teacher", "momentum_buffer")
MODULE_PARTS = ("_parameters", "_buffers", "_modules")
MAX_DEPTH = 64  # dictionaries in dictionaries; modules of real models reach 20


class Stored(Struct, frozen=True):
    """A tensor: its numbers' type, and how it is laid over a storage (all counts in numbers).

    `turned`: whether the numbers at even and at odd places bear the other sign than is stored.
    """

    storage: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    capacity: int
    turned: tuple[bool, bool] = (False, False)

    @property
    def contiguous(self) -> bool:
        step = 1
        for n, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if n > 1 and stride != step:
                return False
            step *= n
        return True


class Found(Struct):
    """The tensors of a checkpoint by name, and what a person should know of the rest. `metadata`: of what class a weight of others is."""

    tensors: dict[str, Stored] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)


def is_allowed(name: str) -> bool:
    """Whether a checkpoint may name this class or function."""
    torch_type = name.startswith("torch.") and name[6:].removeprefix("storage.") in {*STORAGES, *DTYPES, *_UNREAD_TYPES}
    known = name in HARMLESS or name in TENSORS or name in PARAMETERS or name in REFUSED or name == TYPED
    return known or torch_type or name.startswith(HARMLESS_PREFIXES)


_UNREAD_TYPES = {"ComplexFloatStorage", "ComplexDoubleStorage", "QInt8Storage", "QUInt8Storage", "QInt32Storage", "complex64", "complex128"}
_UNREAD_TYPES |= {"QUInt4x2Storage", "QUInt2x4Storage", "qint8", "quint8", "qint32", "per_tensor_affine", "per_channel_affine"}
_UNREAD_TYPES |= {"sparse_coo", "sparse_csr", "strided", "contiguous_format", "preserve_format", "complex32"}
_UNREAD_TYPES |= {f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 8)} | {"float4_e2m1fn_x2"}


def find_tensors(value: Any, path: Path, alone: bool = False) -> Found:
    """The tensors of a checkpoint's state dict; if it is `alone`, the value is one tensor, without a name.

    Raises:
        UnsupportedFormat: a tensor of a kind that is not read.
        DamagedFile: a tensor that leaves its storage.
    """
    found = Found()
    chosen = value if alone else _state_dict(value, found, path)
    pieces = (piece for name, tensor in _tensors(chosen, "", set(), 0, path) for piece in _pieces(tensor, name, found, path))
    for name, tensor in pieces:
        stored = _stored(tensor, name, path)
        if 0 in stored.shape:
            found.notes.append(f"tensor {name!r} has no values and is left out.")
        else:
            found.tensors[name] = stored
    return found


def _state_dict(value: Any, found: Found, path: Path) -> Any:
    """The part that holds the weights: the value itself, or what a training checkpoint keeps under a usual word."""
    for _ in range(MAX_DEPTH):
        parts = _parts(value)
        if any(_is_tensor(part) for part in parts.values()):
            return value
        holders = {key: part for key, part in parts.items() if _holds_tensors(part, path)}
        word = next((word for word in WEIGHTS if word in holders), None)
        others = [str(key) for key in holders if key != word and (word is not None or _is_left_out(str(key)))]
        if others:
            found.notes.append(
                f"tensors under {', '.join(repr(key) for key in others[:5])} are left out: they are not the model's weights."
            )
        if word is None:
            return {key: part for key, part in holders.items() if str(key) not in others}
        value = holders[word]
    return value


def _is_left_out(key: str) -> bool:
    return key.lower().startswith(LEFT_OUT)


def _parts(value: Any) -> dict[Any, Any]:
    """What a value holds, by name: items of dictionaries and lists, parameters and submodules of modules."""
    if isinstance(value, dict):
        return value
    if isinstance(value, (list, tuple)):
        return dict(enumerate(value))
    if not isinstance(value, Call) or _is_tensor(value):
        return {}
    state = value.state if isinstance(value.state, dict) else {}
    if any(isinstance(state.get(part), (dict, Call)) for part in MODULE_PARTS):
        return {key: item for part in MODULE_PARTS for key, item in _parts(state.get(part)).items()}
    arguments = value.arguments[0] if isinstance(value.arguments, tuple) and value.arguments else ()
    pairs = arguments if value.function.startswith("collections.") and isinstance(arguments, list) else ()
    listed = {pair[0]: pair[1] for pair in pairs if isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], (str, int))}
    return {**listed, **value.items, **(state if value.function.startswith("__torch__.") else {})}


def _tensors(value: Any, name: str, seen: set[int], depth: int, path: Path) -> Iterator[tuple[str, Call]]:
    """All tensors below a value with their dotted names; what is shared is met once."""
    if _is_tensor(value):
        yield name, value
        return
    if depth > MAX_DEPTH:
        raise UnsupportedFormat(f"nests dictionaries more than {MAX_DEPTH} deep", path=path, remedy=SAVE_AGAIN)
    if not isinstance(value, (dict, list, tuple, Call)) or id(value) in seen:
        return
    seen.add(id(value))
    for key, part in _parts(value).items():
        yield from _tensors(part, f"{name}.{key}" if name else str(key), seen, depth + 1, path)


def _holds_tensors(value: Any, path: Path) -> bool:
    return next(_tensors(value, "", set(), 0, path), None) is not None


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Call) and (
        value.function in TENSORS or value.function in PARAMETERS or value.function in REFUSED or value.function == TYPED
    )


def _pieces(tensor: Call, name: str, found: Found, path: Path) -> Iterator[tuple[str, Call]]:
    """The tensor; of one of torchao's those that it is made of, named as torchao names them in safetensors. Raises UnsupportedFormat."""
    inside, arguments = tensor, tensor.arguments
    while inside.function in PARAMETERS and isinstance(arguments, tuple) and arguments and isinstance(arguments[0], Call):
        inside = arguments[0]
        arguments = inside.arguments
    kind, state = _wrapped(inside)
    if not kind.startswith(TORCHAO):
        yield name, tensor
        return
    inner = {str(key): part for key, part in state.items() if isinstance(part, Call) and _is_tensor(part)}
    if not any(main in inner for main in MAIN):
        raise UnsupportedFormat(f"is of torchao's class {kind[:100]}, which is not read", path=path, tensor=name, remedy=SAVE_AGAIN)
    module, _, last = name.rpartition(".")
    found.metadata[name] = json.dumps({"_type": kind.rpartition(".")[2]})
    yield from ((f"{module}._{last}_{key}", part) for key, part in inner.items())


def _wrapped(tensor: Call) -> tuple[str, Mapping[Any, Any]]:
    """The class of a tensor made of others, and what is set on it; "" for any other."""
    arguments = tensor.arguments if isinstance(tensor.arguments, tuple) else ()
    if tensor.function != TYPED or len(arguments) < 4 or arguments[0] != Global(WRAPPED) or not isinstance(arguments[1], Global):
        return "", {}
    return arguments[1].name, arguments[3] if isinstance(arguments[3], dict) else {}


def _stored(tensor: Call, name: str, path: Path) -> Stored:
    """The tensor under parameters and types, with its layout checked."""
    for _ in range(MAX_DEPTH):
        arguments = tensor.arguments if isinstance(tensor.arguments, tuple) else ()
        if tensor.function in TENSORS and len(arguments) >= TENSORS[tensor.function]:
            return _checked(tensor.function, arguments, name, path)
        if tensor.function in REFUSED:
            problem = f"is {REFUSED[tensor.function]}, which is not read"
            raise UnsupportedFormat(problem, path=path, tensor=name, remedy="Save it as a plain tensor, or leave it out.")
        if tensor.function == TYPED and len(arguments) >= 3 and isinstance(arguments[0], Global):
            tensor = Call(arguments[0].name, arguments[2])
        elif tensor.function in PARAMETERS and arguments and isinstance(arguments[0], Call):
            tensor = arguments[0]
        else:
            break
    raise DamagedFile("is not described as a tensor is", path=path, tensor=name, remedy=SAVE_AGAIN)


def _checked(function: str, arguments: tuple[Any, ...], name: str, path: Path) -> Stored:
    storage, offset, shape, strides = arguments[0], arguments[1], _sizes(arguments[2]), _sizes(arguments[3])
    key = storage.key if isinstance(storage, Persistent) else ()
    if (
        not isinstance(key, tuple)
        or len(key) < 5
        or key[0] != "storage"
        or not isinstance(key[1], Global)
        or not _naturals((key[4], offset))
    ):
        raise DamagedFile("has no storage", path=path, tensor=name, remedy=SAVE_AGAIN)
    kind = key[1].name.rpartition(".")[2]
    dtype, capacity = STORAGES.get(kind), key[4]
    if function.endswith("_v3"):
        kind = arguments[6].name.rpartition(".")[2] if isinstance(arguments[6], Global) else ""
        dtype = DTYPES.get(kind)
    halves = COMPLEX.get(kind)
    if dtype is None and halves is None:
        problem = f"holds numbers of the kind {kind!r}, which this version does not decode"
        raise UnsupportedFormat(problem, path=path, tensor=name, remedy="Save it as a plain tensor, or leave it out.")
    if shape is None or strides is None or len(shape) != len(strides):
        raise DamagedFile("has no sound shape", path=path, tensor=name, remedy=SAVE_AGAIN)
    conjugate, negative = _marks(arguments, function)
    if halves is not None:
        signs = (negative, negative != conjugate)
        return Stored(str(key[2]), halves, 2 * offset, (*shape, 2), (*(2 * stride for stride in strides), 1), 2 * capacity, signs)
    if negative and dtype not in FLOATS:
        raise DamagedFile("is a negative of no floating-point numbers", path=path, tensor=name, remedy=SAVE_AGAIN)
    return Stored(str(key[2]), dtype or "", offset, shape, strides, capacity, (negative, negative))


def _marks(arguments: tuple[Any, ...], function: str) -> tuple[bool, bool]:
    """Whether a tensor is marked as the conjugate, and as the negative, of what is stored."""
    place = 7 if function.endswith("_v3") else 6
    marks = arguments[place] if len(arguments) > place and isinstance(arguments[place], dict) else {}
    return marks.get("conj") is True, marks.get("neg") is True


def _sizes(value: Any) -> tuple[int, ...] | None:
    if isinstance(value, Call) and value.function == "torch.Size" and isinstance(value.arguments, tuple) and value.arguments:
        value = value.arguments[0]
    return tuple(value) if isinstance(value, (tuple, list)) and len(value) <= MAX_DEPTH and _naturals(value) else None


def _naturals(values: Any) -> bool:
    return all(type(value) is int and 0 <= value < 1 << 62 for value in values)


def within(stored: Stored, capacity: int) -> bool:
    """Whether a tensor stays in its storage of `capacity` numbers, and does not show more numbers than there are."""
    if 0 in stored.shape:
        return True
    last = stored.offset + sum((n - 1) * stride for n, stride in zip(stored.shape, stored.strides, strict=True))
    return last < capacity and prod(stored.shape) <= capacity
