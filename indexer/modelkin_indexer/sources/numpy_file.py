"""NumPy arrays: one .npy file, or the .npy files in an .npz archive. Object arrays, which are pickles, are refused.

https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import io
import os
import zipfile
from contextlib import ExitStack
from math import prod
from pathlib import Path
from tokenize import TokenError

import numpy as np
from msgspec import Struct
from numpy.lib import format as npy

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.source import BITS
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.stored.decoded import BLOCK_BYTES, DecodedSource, Decoder, Origin, Plain, Presented
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, open_regular, read_config, read_exact
from modelkin_indexer.sources.stored.inflated import Inflated, Inflating
from modelkin_indexer.sources.stored.strided import Strided
from modelkin_indexer.sources.stored.zip_files import Member, read_members

SUFFIX = ".npy"
MAX_AXES = 64  # numpy's limit
HEADER_BYTES = 65_536  # of one array's header; real ones have 128
SAVE_PLAIN = "Save plain arrays of floats with numpy.savez."
# An array that is larger than this and compressed more than that is no array of weights but a file made to exhaust time or memory.
BOMB_BYTES, BOMB_RATIO = 64_000_000, 200
MAX_TURNED = 256_000_000  # a compressed array in Fortran order has to be decoded whole

DTYPES = {
    **{"f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8"},
    **{"u8": "U64", "u4": "U32", "u2": "U16", "u1": "U8", "b1": "BOOL"},
}


class _Header(Struct, frozen=True):
    """What stands before an array's numbers, and how many bytes it takes."""

    dtype: str
    shape: tuple[int, ...]
    fortran: bool
    length: int


def open_weights(weights: Weights) -> DecodedSource:
    """The arrays of one file.

    Raises:
        SourceError: the file is missing or damaged, or an array is of a kind that is not read.
    """
    (path,) = weights.files
    with ExitStack() as opened:
        descriptor = open_regular(path)
        opened.callback(os.close, descriptor)
        size = os.fstat(descriptor).st_size
        if bytes(read_exact(descriptor, 0, min(2, size), path)) == b"PK":
            members = read_members(descriptor, size, path)
        else:
            members = {weights.name + SUFFIX: Member(weights.name + SUFFIX, 0, size, size, zipfile.ZIP_STORED, 0)}
        presented: dict[str, Presented] = {}
        notes: list[str] = []
        read = 0
        for name, member in members.items():
            shown, header = _presented(name.removesuffix(SUFFIX).replace("/", "."), member, descriptor, path)
            read += header
            if 0 in shown.info.shape:
                notes.append(f"array {shown.info.name!r} has no values and is left out.")
            elif shown.info.name in presented:
                raise DamagedFile("is there twice", path=path, tensor=shown.info.name, remedy=FETCH_AGAIN)
            else:
                presented[shown.info.name] = shown
        config, config_notes = read_config(path.parent)
        told = (*weights.notes, *notes, *config_notes)
        origin = Origin(weights.path, weights.name, (SourceFile(path.name, size),), config, told, header_bytes=read)
        return DecodedSource(origin, presented, opened.pop_all().close)


def array_in(name: str, descriptor: int, size: int, path: Path) -> tuple[Presented, int]:
    """The one array of an open file of `size` bytes under this name, and how many bytes were read to know it. Raises SourceError."""
    return _presented(name, Member(name + SUFFIX, 0, size, size, zipfile.ZIP_STORED, 0), descriptor, path)


def _presented(name: str, member: Member, descriptor: int, path: Path) -> tuple[Presented, int]:
    """One array and how many bytes were read to know it."""
    if not member.name.endswith(SUFFIX):
        raise UnsupportedFormat(f"holds {member.name!r}, which is no array", path=path, remedy=SAVE_PLAIN)
    inflating = None if member.plain else _inflating(name, member, descriptor, path)
    head = _head(member, inflating, descriptor, path, name)
    header = _header(head, path, name)
    nbytes = prod(header.shape) * BITS[header.dtype] // 8
    if nbytes != member.size - header.length:
        problem = f"has {member.size - header.length:,} bytes, but {nbytes:,} by its shape {header.shape} and type {header.dtype}"
        raise DamagedFile(problem, path=path, tensor=name, remedy=FETCH_AGAIN)
    info = TensorInfo(name, header.dtype, header.shape, nbytes)
    decoder: Decoder = Plain(descriptor, path, name, member.start + header.length)
    if inflating is not None:
        turned = header.fortran and len(header.shape) > 1
        if turned and nbytes > MAX_TURNED:
            problem = f"has {nbytes:,} bytes compressed in Fortran order, more than {MAX_TURNED:,}"
            raise UnsupportedFormat(problem, path=path, tensor=name, remedy=SAVE_PLAIN)
        decoder = Inflated(inflating, header.length, max(1, nbytes) if turned else BLOCK_BYTES)
    if header.fortran and len(header.shape) > 1:
        storage = Presented(TensorInfo(name, header.dtype, (prod(header.shape),), nbytes), decoder)
        strides = tuple(prod(header.shape[:axis]) for axis in range(len(header.shape)))
        decoder = Strided(storage, path, 0, header.shape, strides)
    return Presented(info, decoder), min(len(head), member.stored)


def _inflating(name: str, member: Member, descriptor: int, path: Path) -> Inflating:
    if member.method != zipfile.ZIP_DEFLATED:
        raise UnsupportedFormat(f"is compressed by method {member.method}, not deflate", path=path, tensor=name, remedy=SAVE_PLAIN)
    if member.size > BOMB_BYTES and member.size > BOMB_RATIO * member.stored:
        problem = f"claims {member.size:,} bytes from {member.stored:,} compressed ones"
        raise UnsupportedFormat(problem, path=path, tensor=name, remedy=SAVE_PLAIN)
    return Inflating(descriptor, path, name, member)


def _head(member: Member, inflating: Inflating | None, descriptor: int, path: Path, name: str) -> bytes:
    length = min(HEADER_BYTES, member.size)
    if inflating is None:
        return bytes(read_exact(descriptor, member.start, length, path))
    head = np.empty(length, np.uint8)
    inflating.decode(0, head)
    return head.tobytes()


def _header(head: bytes, path: Path, name: str) -> _Header:
    """What numpy's own reader makes of a header; it takes only literals, no code."""
    stream = io.BytesIO(head)
    try:
        version = npy.read_magic(stream)
        reader = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if reader is None:
            raise ValueError(f"version {version} of the format")
        shape, fortran, dtype = reader(stream)
    except (ValueError, TypeError, OSError, SyntaxError, RecursionError, MemoryError, EOFError, TokenError) as error:
        raise DamagedFile(f"has no sound array header ({str(error)[:200]})", path=path, tensor=name, remedy=FETCH_AGAIN) from error
    word = f"{dtype.kind}{dtype.itemsize}"
    if dtype.hasobject:
        raise UnsupportedFormat("holds Python objects, which would run code", path=path, tensor=name, remedy=SAVE_PLAIN)
    if word not in DTYPES or dtype.fields is not None or dtype.subdtype is not None or dtype.byteorder == ">":
        problem = f"holds numbers of the kind {str(dtype)[:100]!r}, which this version does not decode"
        raise UnsupportedFormat(problem, path=path, tensor=name, remedy=SAVE_PLAIN)
    if len(shape) > MAX_AXES or not all(0 <= n < 1 << 62 for n in shape):
        raise DamagedFile(f"has the impossible shape {shape}", path=path, tensor=name, remedy=FETCH_AGAIN)
    return _Header(DTYPES[word], tuple(shape), fortran, stream.tell())
