"""TensorFlow's checkpoints and SavedModels: `x.index` says which bytes of `x.data-00000-of-00001` are which variable.

Of a SavedModel only the folder `variables` is read; the graph, which may hold code, is not. Kernels come as PyTorch lays them out.
"""

from __future__ import annotations

import re
from collections import Counter
from contextlib import ExitStack
from math import prod
from pathlib import Path

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.source import BITS
from modelkin_indexer.sources.kernels import Laid, laid, shown, spelt, width_of
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.stored.decoded import DecodedSource, Origin, Presented
from modelkin_indexer.sources.stored.extents import OpenFiles, Parts
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, PICK, read_config, read_exact
from modelkin_indexer.sources.tensorflow.bundle import GRAPH, TEXT, Entry, called, entry, header, text_in
from modelkin_indexer.sources.tensorflow.table import SAVE_AGAIN, Table

SUFFIX = ".index"
MAX_INDEX = 64_000_000  # bytes of an index; those of large public models have 1 MB
MAX_GRAPH = 64_000_000  # bytes of the graph of objects
ATTRIBUTE = re.compile(r"/\.ATTRIBUTES/.*$")
# Of a training: slots of optimizers, old and new, averages, counters. The variables that a new optimizer trains are the model's own.
NOT_MODEL = re.compile(
    r"(?:^|/)(?:optimizer|_?optimizer_step|keras_api|save_counter)(?:/(?!_trainable_variables/)|$)|\.OPTIMIZER_SLOT/"
    r"|/(?:adam_[mv]|Adam(?:_\d)?|adafactor_\w+|AdamWeightDecay\w*|Momentum|RMSProp(?:_\d)?|Adagrad|ExponentialMovingAverage|slot_v[rc]?)$"
    r"|^(?:beta[12]_power|global_step|learning_rate)",
)
# What the leaves of variables are called by libraries other than Keras (TF-Slim, OpenAI's GPT-2, Sonnet), in its words.
LEAVES = {"weights": "kernel", "biases": "bias", "depthwise_weights": "depthwise_kernel", "w": "kernel", "b": "bias", "g": "gamma"}
FLOATS = ("F64", "F32", "F16", "BF16")
SMALL = 64  # bytes of whole numbers that are no weight: counters, the states of generators


def open_weights(weights: Weights) -> DecodedSource:
    """Open one checkpoint.

    Raises:
        SourceError: a file of it is missing or damaged, or it holds no variables.
    """
    if len(weights.files) != 1:
        raise UnsupportedFormat("is made of several indexes", path=weights.path, remedy=f"A checkpoint has one; {PICK}")
    path, files = weights.files[0], OpenFiles()
    with ExitStack() as opened:
        opened.callback(files.close)
        size = files.sizes[files.open(path)]
        if size > MAX_INDEX:
            raise UnsupportedFormat(f"has an index of {size:,} bytes, more than {MAX_INDEX:,}", path=path, remedy=SAVE_AGAIN)
        reader = _Reader(bytes(read_exact(files.descriptor(0), 0, size, path)), path, files)
        presented = reader.presented()
        config, notes = read_config(path.parent)
        origin = Origin(
            weights.path,
            weights.name,
            files.described(),
            config,
            (*weights.notes, *reader.notes, *notes),
            header_bytes=size + reader.graph_bytes,
            unread=tuple(sorted(reader.unread.items())),
        )
        return DecodedSource(origin, presented, opened.pop_all().close)


class _Reader:
    """Turns the entries of one index into tensors."""

    def __init__(self, index: bytes, path: Path, files: OpenFiles) -> None:
        self._path, self._files = path, files
        self.notes: list[str] = []
        self.unread: Counter[str] = Counter()
        self.graph_bytes = 0
        entries = dict(Table(index, path).entries())
        self._shards = header(entries.pop("", b""), path)
        for shard in range(self._shards):
            files.open(path.with_name(f"{path.name.removesuffix(SUFFIX)}.data-{shard:05}-of-{self._shards:05}"))
        self._entries = {name: entry(name, value, path) for name, value in entries.items() if "\0" not in name}

    def presented(self) -> dict[str, Presented]:
        """The tensors by name. Raises SourceError."""
        chosen = self._named(self._chosen())
        gains = (one.shape[0] for name, one in chosen.items() if name.rpartition("/")[2] == "gamma" and len(one.shape) == 1)
        width = width_of(Counter(gains))
        found: dict[str, Presented] = {}
        for full, one in chosen.items():
            *front, leaf = "".join(letter if letter.isprintable() else "?" for letter in full).split("/")
            leaf = LEAVES.get(leaf, leaf)
            name = spelt(front, leaf)
            if name in found:
                name = spelt(full.split("/"), "")
            lies = _lies("/".join(front).lower(), leaf, one.shape, width)
            parts = Parts(name, (self._files.extent(1 + one.shard, one.start, one.length, name),), self._files)
            found[name] = shown(name, one.dtype, one.shape, lies, parts, self._path)
        if not found:
            raise UnsupportedFormat("holds no variables with numbers", path=self._path, remedy=SAVE_AGAIN)
        return found

    def _chosen(self) -> dict[str, Entry]:
        """The variables of the model, by key."""
        found, left_out = {}, 0
        for name, one in self._entries.items():
            if one.kind == TEXT or not one.shape or 0 in one.shape:
                continue  # texts, counters, nothing
            if NOT_MODEL.search(name):
                left_out += 1
                continue
            if one.dtype not in FLOATS or one.in_slices:
                if one.length > SMALL or one.in_slices:
                    what = "variables in slices" if one.in_slices else f"numbers of type {one.kind}"
                    self.unread[f"TensorFlow, {what}"] += max(one.length, prod(one.shape) * BITS.get(one.dtype, 8) // 8)
                continue
            if one.shard >= self._shards or prod(one.shape) * BITS[one.dtype] // 8 != one.length:
                problem = f"has {one.length:,} bytes in file {one.shard}, which its shape {list(one.shape)} and type {one.dtype} contradict"
                raise DamagedFile(problem, path=self._path, tensor=name[:200], remedy=FETCH_AGAIN)
            found[name] = one
        if left_out:
            self.notes.append(f"{left_out} tensors of the optimizer and other parts of a training are left out.")
        return found

    def _named(self, chosen: dict[str, Entry]) -> dict[str, Entry]:
        """The variables under the names that they had in the program, else under the words that lead to them.

        A variable that is there twice, equal, is read once; two that only share their name keep those words.
        """
        names = self._graph()
        found: dict[str, tuple[str, Entry]] = {}
        twice = 0
        for key, one in chosen.items():
            plain = ATTRIBUTE.sub("", key)
            name = names.get(key, plain)
            other = found.get(name)
            if other is None:
                found[name] = key, one
            elif (one.checksum, one.dtype, one.shape) == (other[1].checksum, other[1].dtype, other[1].shape) and one.checksum:
                twice += 1
            else:
                found[plain] = key, one
        if twice:
            self.notes.append(f"{twice} variables stand twice in it with equal bytes; they are read once.")
        return {name: one for name, (_, one) in found.items()}

    def _graph(self) -> dict[str, str]:
        """Key -> name, as the graph of objects says; {} of checkpoints without one."""
        one = self._entries.get(GRAPH)
        if one is None or one.kind != TEXT or one.length > MAX_GRAPH or one.shard >= self._shards:
            return {}
        extent = self._files.extent(1 + one.shard, one.start, one.length, GRAPH)
        self.graph_bytes = one.length
        return dict(called(text_in(self._files.read(extent, GRAPH)), self._path))


def _lies(name: str, leaf: str, shape: tuple[int, ...], width: int) -> Laid:
    """How a variable lies. GPT-2's dense layers are convolutions along one axis that are one number wide."""
    if leaf == "kernel" and len(shape) == 3 and shape[0] == 1 and "conv" not in name:
        return Laid((shape[2], shape[1]), transposed=True)
    return laid(name, leaf, shape, width)
