"""Paddle's weights: `.pdparams` (pickles of arrays, one file or shards) and `.pdiparams` (parameters of an exported program).

pickled.py  a pickle -> arrays     program.py  parameters and their names     stored.py  how they lie as PyTorch has them
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.sources.paddle.pickled import SAVE_AGAIN, read_pickled
from modelkin_indexer.sources.paddle.program import read_parameters
from modelkin_indexer.sources.paddle.stored import Stored
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.safetensors.header import read_index
from modelkin_indexer.sources.stored.decoded import DecodedSource, Origin, Presented
from modelkin_indexer.sources.stored.extents import OpenFiles
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, read_config, read_exact

SUFFIXES = (".pdparams",)
PICKLED = b"\x80"
FLOATS = ("F64", "F32", "F16", "BF16")
FORMAT = {"format": "paddle"}  # by which matrices that no name tells are held for [in, out] where their shapes leave it open


def open_weights(weights: Weights) -> DecodedSource:
    """The file, or all shards.

    Raises:
        SourceError: a file is missing or damaged, would run code, or holds no arrays.
    """
    paths = weights.files
    if weights.index is not None:
        paths = tuple(weights.index.parent / name for name in sorted(set(read_index(weights.index, SUFFIXES).values())))
    files = OpenFiles()
    with ExitStack() as opened:
        opened.callback(files.close)
        arrays: list[Stored] = []
        notes: tuple[str, ...] = ()
        header = 0
        for path in paths:
            number = files.open(path)
            descriptor, size = files.descriptor(number), files.sizes[number]
            if bytes(read_exact(descriptor, 0, min(1, size), path)) == PICKLED:
                found, read = read_pickled(descriptor, size, path, number)
            else:
                found, read, told = read_parameters(descriptor, size, path, number)
                notes = (*notes, *told)
            arrays, header = arrays + found, header + read
        unread: Counter[str] = Counter()
        presented: dict[str, Presented] = {}
        biases = {array.name.removesuffix("bias") + "weight": array.shape for array in arrays if array.name.endswith(".bias")}
        for array in arrays:
            if array.name in presented:
                raise DamagedFile("is there twice", path=paths[0], tensor=array.name, remedy=FETCH_AGAIN)
            shown = array.presented(files, biases)
            if array.dtype in FLOATS and shown.info.elements:
                presented[array.name] = shown
            elif shown.info.elements > 64:  # counters are no weights
                unread[f"Paddle, {array.dtype}"] += shown.info.nbytes
        if not presented:
            raise UnsupportedFormat("holds no arrays of numbers", path=paths[0], remedy=SAVE_AGAIN)
        config, config_notes = read_config(paths[0].parent)
        origin = Origin(
            weights.path,
            weights.name,
            files.described(),
            config,
            (*weights.notes, *notes, *config_notes),
            header_bytes=header,
            metadata=FORMAT,
            unread=tuple(sorted(unread.items())),
        )
        return DecodedSource(origin, presented, opened.pop_all().close)
