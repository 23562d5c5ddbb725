"""The messages of HDF5 object headers: what an array or group is, as bytes say it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

Read = Callable[[int, int], bytes]
MAX_MESSAGES = 100_000  # of one object; those of real ones have a few dozen
GZIP, SHUFFLE, CHECKSUM = 1, 2, 3  # HDF5's numbers of filters
UNDONE = (GZIP, SHUFFLE, CHECKSUM)
NOWHERE = (1 << 64) - 1
DTYPES: dict[tuple[str | int, int], str] = {
    **{("i", 8): "I64", ("i", 4): "I32", ("i", 2): "I16", ("i", 1): "I8"},
    **{("u", 8): "U64", ("u", 4): "U32", ("u", 2): "U16", ("u", 1): "U8"},
    **{(11, 8): "F64", (8, 4): "F32", (5, 2): "F16", (8, 2): "BF16"},
}


class NotRead(Exception):
    """A sound part of the file of a kind that is not read; says what."""


class Message(Struct, frozen=True):
    """One message of an object header."""

    kind: int
    data: bytes

    SPACE, LINK_INFO, TYPE, LINK, OUTSIDE, LAYOUT, FILTERS, ATTRIBUTE, MORE, SYMBOLS = 1, 2, 3, 6, 7, 8, 11, 12, 16, 17

    @property
    def dense_links(self) -> bool:
        """Of LINK_INFO: whether the links of the group are elsewhere."""
        return _number(self.data, 2 + 8 * (self.data[1] & 1), 8) != NOWHERE


class Link(Struct, frozen=True):
    """What a name in a group leads to; `address` is None for another name of something."""

    name: str
    address: int | None
    leads_out: bool = False


class Layout(Struct, frozen=True):
    """Where an array lies: `nbytes` from `address` on, or a tree of chunks of that shape, the width of a number last."""

    address: int | None
    nbytes: int = 0
    chunk: tuple[int, ...] = ()


class Chunks(Struct, frozen=True):
    """An array in chunks: where each lies by its first number's place, and the filters that were applied, in order."""

    start: int
    shape: tuple[int, ...]
    where: dict[tuple[int, ...], tuple[int, int]]
    filters: tuple[int, ...]


class Described(Struct, frozen=True):
    """What the messages say of an array. `dtype` is None of what are no numbers in this machine's order."""

    dtype: str | None
    shape: tuple[int, ...] | None
    layout: Layout | None
    filters: tuple[int, ...]
    outside: bool
    attributes: tuple[Message, ...]


def headers(read: Read, address: int, once: Callable[[int], int]) -> Iterator[Message]:
    """The messages of the object at an address. `once` refuses an address that was met before."""
    head = read(address, 16)
    if head[:4] == b"OHDR":
        flags = head[5]
        at = 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
        width = 1 << (flags & 3)
        size = int.from_bytes(read(address + at, width), "little")
        blocks, newer, wide = [(address + at + width, size)], True, 4 + 2 * bool(flags & 4)
    elif head[0] == 1:
        blocks, newer, wide = [(address + 16, _number(head, 8, 4))], False, 8
    else:
        raise ValueError(f"no object at byte {address:,}")
    count = 0
    while blocks:
        start, size = blocks.pop(0)
        data, at = read(start, size), 0
        while at + wide <= size:
            kind = data[at] if newer else int.from_bytes(data[at : at + 2], "little")
            length = int.from_bytes(data[at + 1 : at + 3] if newer else data[at + 2 : at + 4], "little")
            shared = data[at + 3 if newer else at + 4] & 2
            body = data[at + wide : at + wide + length]
            at += wide + length
            count += 1
            if len(body) < length or count > MAX_MESSAGES:
                break
            if kind == Message.MORE:
                where, more = _number(body, 0, 8), _number(body, 8, 8)
                blocks.append((once(where) + 4, more - 8) if newer else (once(where), more))
            elif kind and not shared:
                yield Message(kind, body)


def described(messages: Iterable[Message]) -> Described:
    """What the messages of an array say together. Raises NotRead, ValueError, IndexError."""
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    layout: Layout | None = None
    filters: tuple[int, ...] = ()
    outside, attributes = False, []
    for message in messages:
        if message.kind == Message.SPACE:
            shape = _shape(message.data)
        elif message.kind == Message.TYPE:
            dtype = _dtype(message.data)
        elif message.kind == Message.LAYOUT:
            layout = _layout(message.data)
        elif message.kind == Message.FILTERS:
            filters = _filters(message.data)
        elif message.kind == Message.ATTRIBUTE:
            attributes.append(message)
        outside = outside or message.kind == Message.OUTSIDE
    if dtype is not None and layout is None:
        raise NotRead("kept in a form that only newer HDF5 writes")
    return Described(dtype, shape, layout, filters, outside, tuple(attributes))


def link(data: bytes) -> Link:
    """What a link message says."""
    flags, at = data[1], 2
    kind = data[at] if flags & 8 else 0
    at += bool(flags & 8) + 8 * bool(flags & 4) + bool(flags & 0x10)
    width = 1 << (flags & 3)
    length = _number(data, at, width)
    name = data[at + width : at + width + length].decode("utf-8", "replace")
    if kind:
        return Link(name, None, kind > 1)
    return Link(name, _number(data, at + width + length, 8))


def attribute(message: Message, held: Callable[[int, int], bytes]) -> tuple[str, str] | None:
    """Name and value of an attribute that is one text. `held` gives what lies in a heap."""
    if message.kind != Message.ATTRIBUTE:
        return None
    data, version = message.data, message.data[0]
    sizes = [_number(data, at, 2) for at in (2, 4, 6)]
    at, places = 8 + (version == 3), []
    for size in sizes:
        places.append(data[at : at + size])
        at += -(-size // 8) * 8 if version == 1 else size
    name, kind, space = places
    value, text = data[at:], None
    if len(kind) < 8 or _shape(space) != ():
        return None
    if kind[0] & 15 == 9 and kind[1] & 15 == 1 and len(value) >= 16:
        text = held(_number(value, 4, 8), _number(value, 12, 4))[: _number(value, 0, 4)]
    elif kind[0] & 15 == 3:
        text = value[: _number(kind, 4, 4)].rstrip(b"\0")
    return None if text is None else (name.partition(b"\0")[0].decode("utf-8", "replace"), text.decode("utf-8", "replace"))


def _shape(data: bytes) -> tuple[int, ...] | None:
    """The shape of a dataspace; () of one value, None of none."""
    version, axes = data[0], data[1]
    if version == 2 and data[3] == 2:
        return None
    at = 8 if version == 1 else 4
    return tuple(_number(data, at + 8 * axis, 8) for axis in range(axes))


def _dtype(data: bytes) -> str | None:
    """safetensors' word for a type of numbers; None of others, and of big-endian ones."""
    kind, size = data[0] & 15, _number(data, 4, 4)
    if data[1] & 1:
        return None
    if kind == 0:
        whole = _number(data, 8, 2) == 0 and _number(data, 10, 2) == 8 * size
        return DTYPES.get(("i" if data[1] & 8 else "u", size)) if whole else None
    return DTYPES.get((data[13], size)) if kind == 1 and _number(data, 10, 2) == 8 * size else None


def _layout(data: bytes) -> Layout | None:
    """Version 3; in a file of another, None: newer ones have other trees."""
    version, kind = data[0], data[1]
    if version == 4 and kind == 3:
        raise NotRead("made of other arrays")
    if version not in (3, 4):
        return None
    if kind == 1:
        return Layout(_number(data, 2, 8), _number(data, 10, 8))
    if kind == 2 and version == 3:
        axes = data[2]
        return Layout(_number(data, 3, 8), 0, tuple(_number(data, 11 + 4 * axis, 4) for axis in range(axes)))
    return None


def _filters(data: bytes) -> tuple[int, ...]:
    """The filters of chunks. Raises NotRead."""
    version, count = data[0], data[1]
    at, found = 8 if version == 1 else 2, []
    for _ in range(count):
        number = _number(data, at, 2)
        named = version == 1 or number >= 256
        name = _number(data, at + 2, 2) if named else 0
        at += 4 if named else 2
        values = _number(data, at + 2, 2)
        at += 4 + (-(-name // 8) * 8 if version == 1 else name) + 4 * (values + (values % 2 if version == 1 else 0))
        found.append(number)
    if not set(found) <= set(UNDONE):
        raise NotRead(f"compressed by filter {max(set(found) - set(UNDONE))}")
    return tuple(found)


def _number(data: bytes, at: int, width: int) -> int:
    if at + width > len(data):
        raise IndexError("ends early")
    return int.from_bytes(data[at : at + width], "little")
