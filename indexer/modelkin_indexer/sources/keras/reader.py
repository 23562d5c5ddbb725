"""Keras models: `.keras` archives, `.weights.h5`, and older `.h5` files (`model.save`, and tf_model.h5 of transformers).

hdf5.py, messages.py  the file -> arrays and where they lie     variables.py  what the variables of a layer are
chunked.py            compressed arrays                         quantised.py  int8 and int4 with their scales

The config in an archive is not read: layers of a stranger's classes and lambdas are code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.source import BITS
from modelkin_indexer.sources.keras.chunked import Chunked
from modelkin_indexer.sources.keras.gates import InOrder, is_gru
from modelkin_indexer.sources.keras.hdf5 import SAVE_AGAIN, Array, Group, Hdf5
from modelkin_indexer.sources.keras.quantised import is_quantised, quantised, scales_of
from modelkin_indexer.sources.keras.variables import leaves_of
from modelkin_indexer.sources.kernels import Laid, laid, shown, spelt, width_of
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.stored.decoded import DecodedSource, Decoder, Origin, Plain, Presented
from modelkin_indexer.sources.stored.extents import OpenFiles
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, PICK, read_config, read_exact
from modelkin_indexer.sources.stored.zip_files import read_members

WEIGHTS = "model.weights.h5"  # of an archive
NOT_MODEL = ("optimizer", "optimizer_weights", "seed_generator")
FLOATS = ("F64", "F32", "F16", "BF16")
NUMBERED = "vars"  # the group of a layer's variables in Keras 3
MATRICES = ("kernel", "_kernel", "embeddings", "_embeddings")  # the variables of the older form that come first
MODEL_WEIGHTS = "model_weights"  # the group of all layers in a whole model of the older form


class _Variable(Struct, frozen=True):
    """An array with the names of the layers around it, and what it is of the last one. `kind`: what that is called, with its class."""

    path: tuple[str, ...]
    kind: str
    leaf: str
    array: Array


def open_weights(weights: Weights) -> DecodedSource:
    """Open one Keras file.

    Raises:
        SourceError: it is missing or damaged, or none of Keras.
    """
    if len(weights.files) != 1:
        raise UnsupportedFormat("is made of shards", path=weights.path, remedy=f"Keras models are one file; {PICK}")
    path, files = weights.files[0], OpenFiles()
    with ExitStack() as opened:
        opened.callback(files.close)
        number = files.open(path)
        start, stop = _extent(files, number, path)
        hdf5 = Hdf5(files.descriptor(number), start, stop, path)
        reader = _Reader(hdf5.tree(), files, path)
        presented = reader.presented()
        config, notes = read_config(path.parent)
        origin = Origin(
            weights.path,
            weights.name,
            (SourceFile(path.name, files.sizes[number]),),
            config,
            (*weights.notes, *reader.notes, *notes),
            reader.quantization(),
            hdf5.header_bytes,
            unread=tuple(sorted(reader.unread.items())),
        )
        return DecodedSource(origin, presented, opened.pop_all().close)


def _extent(files: OpenFiles, number: int, path: Path) -> tuple[int, int]:
    """Where the HDF5 file lies: the whole file, or a member of an archive that is stored as it is."""
    size = files.sizes[number]
    if bytes(read_exact(files.descriptor(number), 0, min(2, size), path)) != b"PK":
        return 0, size
    member = read_members(files.descriptor(number), size, path).get(WEIGHTS)
    if member is None:
        raise UnsupportedFormat(f"is an archive without {WEIGHTS}", path=path, remedy=SAVE_AGAIN)
    if not member.plain:
        raise UnsupportedFormat(f"holds {WEIGHTS} compressed", path=path, remedy="Save the model again; Keras stores it as it is.")
    return member.start, member.start + member.size


class _Reader:
    """Turns the arrays of one file into tensors."""

    def __init__(self, tree: Group, files: OpenFiles, path: Path) -> None:
        self._tree, self._files, self._path = tree, files, path
        self.notes: list[str] = []
        self.unread: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()

    def presented(self) -> dict[str, Presented]:
        """The tensors by name. Raises SourceError."""
        numbered = [(path, group) for path, group in self._tree.walk() if path and path[-1] == NUMBERED and path[0] not in NOT_MODEL]
        layers = [self._numbered(path, group) for path, group in numbered if group.arrays] or list(self._named())
        width = width_of(Counter(v.array.shape[0] for layer in layers for v in layer if v.leaf == "gamma" and len(v.array.shape) == 1))
        found: dict[str, Presented] = {}
        for layer in layers:
            for name, tensor in self._layer(layer, width):
                if name in found:
                    raise DamagedFile("is there twice", path=self._path, tensor=name, remedy=FETCH_AGAIN)
                found[name] = tensor
        if not found and self.unread:
            what = ", ".join(sorted(self.unread)[:5])
            raise UnsupportedFormat(f"holds nothing but weights that are not read ({what})", path=self._path, remedy=SAVE_AGAIN)
        if not found:
            raise UnsupportedFormat("is an HDF5 file, but none of Keras's weights", path=self._path, remedy=SAVE_AGAIN)
        return found

    def quantization(self) -> str:
        """How most quantised weights are stored."""
        return f"Keras {self._kinds.most_common(1)[0][0]}" if self._kinds else ""

    def _numbered(self, path: tuple[str, ...], group: Group) -> list[_Variable]:
        """The variables of a layer of Keras 3. A layer's own name is kept beside its variables; its group is called as its class is."""
        if not all(name.isdecimal() for name in group.arrays):
            raise DamagedFile(f"has variables without numbers in {'/'.join(path)[:200]!r}", path=self._path, remedy=FETCH_AGAIN)
        arrays = [group.arrays[name] for name in sorted(group.arrays, key=int)]
        names, at = list[str](), self._tree
        for part in path[:-1]:
            at = at.groups[part]
            own = at.groups[NUMBERED].texts.get("name") if NUMBERED in at.groups else None
            names.append((own or part).strip("/"))
        if names[:1] == ["layers"]:
            names = names[1:]
        kind = f"{path[-2] if len(path) > 1 else ''}/{names[-1] if names else ''}".lower()
        around = tuple(names) or ("model",)
        leaves = enumerate(zip(leaves_of(kind, arrays), arrays, strict=True))
        return [_Variable(around, kind, leaf or str(at), array) for at, (leaf, array) in leaves]

    def _named(self) -> Iterator[list[_Variable]]:
        """The variables of the older form: below a group for each layer, under their names."""
        tree = self._tree.groups.get(MODEL_WEIGHTS, self._tree)
        for layer, group in tree.groups.items():
            if layer in NOT_MODEL:
                continue
            for path, inside in group.walk():
                names = path or (layer,)
                kind = f"{layer}/{'/'.join(names)}".lower()
                leaves = sorted((name.partition(":")[0] not in MATRICES, name.partition(":")[0], name) for name in inside.arrays)
                yield [_Variable(names, kind, leaf, inside.arrays[name]) for _, leaf, name in leaves]

    def _layer(self, layer: list[_Variable], width: int) -> Iterator[tuple[str, Presented]]:
        """The tensors of one layer."""
        arrays = [variable.array for variable in layer]
        if is_quantised(arrays):
            name = spelt(layer[0].path, "kernel")
            found = quantised(name, layer[0].kind, arrays, width, self._files, self._path)
            if isinstance(found, str):
                self.unread[found] += arrays[0].nbytes
            else:
                self._kinds[found.kind] += 1
                yield name, found.shown
            scales = scales_of(arrays)
            layer = [variable for variable in layer if variable.leaf == "bias" and not any(variable.array is scale for scale in scales)]
        gru = is_gru([(variable.leaf, variable.array.shape) for variable in layer])
        for variable in layer:
            array, name = variable.array, spelt(variable.path, variable.leaf)
            if array.dtype not in FLOATS or not array.nbytes:
                if array.nbytes > 64:  # a counter or the state of a generator is no weight
                    self.unread[f"Keras, {array.dtype}"] += array.nbytes
                continue
            yield name, self._shown(name, array, laid(variable.kind, variable.leaf, array.shape, width), gru)

    def _shown(self, name: str, array: Array, lies: Laid, gru: bool) -> Presented:
        descriptor = self._files.descriptor(0)
        decoder: Decoder = Plain(descriptor, self._path, name, array.start or 0)
        if array.chunks is not None:
            decoder = Chunked(descriptor, self._path, name, array.dtype, array.shape, array.chunks)
        if gru:
            decoder = InOrder(decoder, array.shape[-1] * BITS[array.dtype] // 8)
        return shown(name, array.dtype, array.shape, lies, decoder, self._path)
