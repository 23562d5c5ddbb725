"""Pickles that a stranger wrote, read without running anything: what would be looked up or called becomes a plain record of it.

`pickletools` takes the stream apart; the stack machine here builds nothing but numbers, texts, containers and those records. Names of
classes and functions are held against a list, so that a file that would run something else is refused by what it would run.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, Protocol

from msgspec import Struct, field

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat

MAX_STEPS = 4_000_000  # steps of one pickle: a checkpoint of 100,000 tensors has 3,000,000
SAVE_AGAIN = "Save the state dict alone, or as safetensors."


class Global(Struct, frozen=True):
    """The name of a class or function."""

    name: str


class Call(Struct, eq=False):
    """What would have been made by calling `function`: its arguments, the state set on it and the items put into it."""

    function: str
    arguments: Any
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)


class Persistent(Struct, frozen=True, eq=False):
    """A thing that is stored outside the pickle, by its id."""

    key: Any


class Numbered(str):
    """The name of an item whose key is no plain value, but `key`."""

    key: Any

    def __new__(cls, number: int, key: Any) -> Numbered:
        made = super().__new__(cls, f"#{number}")
        made.key = key
        return made


class Stream(Protocol):
    """A file at its position; reads no more than it holds."""

    def read(self, count: int) -> bytes: ...

    def readline(self) -> bytes: ...


def read_pickle(stream: Stream, path: Path, allowed: Callable[[str], bool], outside: list[Persistent] | None = None) -> Any:
    """The value of the pickle that begins at the stream's position, which is left after its end.

    `outside` takes up all that is said to be stored outside of it, in order.

    Raises:
        DamagedFile: it is no pickle, or ends too early.
        UnsupportedFormat: it names something that is not `allowed`, or is too large.
    """
    machine = _Machine(path, allowed, outside if outside is not None else [])
    try:
        for steps, (opcode, argument, _) in enumerate(pickletools.genops(stream)):  # type: ignore[arg-type]
            if steps >= MAX_STEPS:
                raise UnsupportedFormat(f"has a pickle of more than {MAX_STEPS:,} steps", path=path, remedy=SAVE_AGAIN)
            machine.step(opcode.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DamagedFile(f"holds no sound pickle ({error})", path=path, remedy="Download or export the file again.") from error
    return machine.value()


_MARK = object()
_PUSHED = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_SET": list}
_SKIPPED = {"PROTO", "FRAME", "STOP"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    """The stack and memo of one pickle."""

    def __init__(self, path: Path, allowed: Callable[[str], bool], outside: list[Persistent]) -> None:
        self._path, self._allowed, self._outside = path, allowed, outside
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def value(self) -> Any:
        if len(self._stack) != 1:
            raise DamagedFile("holds no sound pickle (it ends early)", path=self._path, remedy="Download or export the file again.")
        return self._stack[0]

    def step(self, name: str, argument: Any) -> None:
        if name in _PUSHED:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self._stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self._stack.append(tuple(self._top(_TUPLES[name])))
        elif name not in _SKIPPED:
            step = getattr(self, f"_{name.lower()}", None)
            if step is None:
                self._refuse(f"uses the pickle step {name}")
            step(argument)

    def _refuse(self, problem: str) -> NoReturn:
        raise UnsupportedFormat(f"{problem}, which is not read", path=self._path, remedy=SAVE_AGAIN)

    def _top(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise IndexError("stack is empty")
        taken = self._stack[-count:]
        del self._stack[-count:]
        if any(value is _MARK for value in taken):
            raise ValueError("a mark is used as a value")
        return taken

    def _marked(self) -> list[Any]:
        """What stands above the last mark."""
        at = len(self._stack) - 1
        while self._stack[at] is not _MARK:  # raises IndexError below the bottom
            at -= 1
            if at < 0:
                raise IndexError("no mark")
        taken = self._stack[at + 1 :]
        del self._stack[at:]
        return taken

    def _mark(self, _: Any) -> None:
        self._stack.append(_MARK)

    def _pop(self, _: Any) -> None:
        self._stack.pop()

    def _pop_mark(self, _: Any) -> None:
        self._marked()

    def _dup(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._marked()))

    def _list(self, _: Any) -> None:
        self._stack.append(self._marked())

    def _frozenset(self, _: Any) -> None:
        self._stack.append(self._marked())

    def _dict(self, _: Any) -> None:
        taken = self._marked()
        self._stack.append({})
        self._fill(taken)

    def _append(self, _: Any) -> None:
        self._extend(self._top(1))

    def _appends(self, _: Any) -> None:
        self._extend(self._marked())

    def _additems(self, _: Any) -> None:
        self._extend(self._marked())

    def _extend(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(values)
        else:
            target.items.update(enumerate(values, start=len(target.items)))

    def _setitem(self, _: Any) -> None:
        self._fill(self._top(2))

    def _setitems(self, _: Any) -> None:
        self._fill(self._marked())

    def _fill(self, taken: list[Any]) -> None:
        target = self._stack[-1]
        items = target if isinstance(target, dict) else target.items
        for key, value in zip(taken[::2], taken[1::2], strict=True):
            plain = key is None or isinstance(key, (str, int, float, bytes))  # hashing a nest of tuples could exhaust the stack
            items[key if plain else Numbered(len(items), key)] = value

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _put_memo(self, argument: Any) -> None:
        self._memo[argument] = self._stack[-1]

    def _get_memo(self, argument: Any) -> None:
        self._stack.append(self._memo[argument])

    _put = _binput = _long_binput = _put_memo
    _get = _binget = _long_binget = _get_memo

    def _global(self, argument: Any) -> None:
        self._name(argument.replace(" ", ".", 1))

    def _stack_global(self, _: Any) -> None:
        module, name = self._top(2)
        self._name(f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "")

    def _name(self, name: str) -> None:
        if not self._allowed(name):
            self._refuse(f"would call {name[:200]!r}")
        self._stack.append(Global(name))

    def _reduce(self, _: Any) -> None:
        function, arguments = self._top(2)
        if isinstance(function, Persistent) and function.key[0] == "module":  # a class that is kept with its source
            function = function.key[1]
        self._stack.append(Call(function.name, arguments))

    def _newobj(self, _: Any) -> None:
        self._reduce(None)

    def _newobj_ex(self, _: Any) -> None:
        self._top(1)
        self._reduce(None)

    def _build(self, _: Any) -> None:
        (state,) = self._top(1)
        if isinstance(self._stack[-1], Call):
            self._stack[-1].state = state

    def _binpersid(self, _: Any) -> None:
        self._outside.append(Persistent(self._top(1)[0]))
        self._stack.append(self._outside[-1])
