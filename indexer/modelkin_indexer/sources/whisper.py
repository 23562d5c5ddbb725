"""whisper.cpp's ggml files: settings, mel filters, vocabulary, then tensors one after the other under the names of OpenAI's whisper.

https://github.com/ggml-org/whisper.cpp/blob/master/models/convert-pt-to-ggml.py and src/whisper.cpp (whisper_model_load).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import NoReturn

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from msgspec import Struct

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.source import BITS
from modelkin_indexer.sources.gguf.blocks import is_decoded, shown, stored_bytes
from modelkin_indexer.sources.gguf.names import Restored
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.stored.decoded import DecodedSource, Origin, Presented
from modelkin_indexer.sources.stored.extents import OpenFiles
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, PICK, read_config, read_exact

MAGIC = b"lmgg"  # 0x67676d6c, little-endian
SETTINGS = (
    *("vocab_size", "max_source_positions", "d_model", "encoder_attention_heads", "encoder_layers"),
    *("max_target_positions", "decoder_d_model", "decoder_attention_heads", "decoder_layers", "num_mel_bins", "ftype"),
)
LARGEST = 1_000_000  # of a setting: words of the vocabulary
MAX_FILTERS, MAX_WORD, MAX_TENSORS, MAX_NAME = 1_000_000, 4096, 20_000, 256
WINDOW = 1 << 16
OTHER = "Convert the weights to GGUF, or get another form of them."


class _Entry(Struct, frozen=True):
    name: str
    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    start: int


def open_weights(weights: Weights) -> DecodedSource:
    """Open one file. Raises SourceError."""
    if len(weights.files) != 1:
        raise UnsupportedFormat("is made of shards", path=weights.path, remedy=f"whisper.cpp's models are one file; {PICK}")
    path, files = weights.files[0], OpenFiles()
    try:
        descriptor = files.descriptor(number := files.open(path))
        reader = _Reader(descriptor, files.sizes[number], path)
        settings = reader.settings()
        presented: dict[str, Presented] = {}
        kinds: Counter[str] = Counter()
        stored = 0
        for entry in reader.entries():
            if entry.name in presented:
                raise DamagedFile("is there twice", path=path, tensor=entry.name, remedy=FETCH_AGAIN)
            tensor = shown(descriptor, path, entry.kind, Restored(entry.name), entry.shape, entry.start)
            flat = tuple(n for n in entry.shape if n > 1)
            if len(entry.shape) > 1 and len(flat) == 1:  # offsets of convolutions have a second axis
                tensor = Presented(TensorInfo(entry.name, tensor.info.dtype, flat, tensor.info.nbytes), tensor.decoder)
            presented[entry.name] = tensor
            stored += stored_bytes(entry.kind, prod(entry.shape))
            if entry.kind.name not in BITS:
                kinds[entry.kind.name] += prod(entry.shape)
        config, notes = read_config(path.parent)
        origin = Origin(
            weights.path,
            weights.name,
            (SourceFile(path.name, files.sizes[number]),),
            config or {"model_type": "whisper", **settings},
            (*weights.notes, *notes),
            f"whisper.cpp {kinds.most_common(1)[0][0]}" if kinds else "",
            files.sizes[number] - stored,
        )
        return DecodedSource(origin, presented, files.close)
    except BaseException:
        files.close()
        raise


class _Reader:
    """Walks the file. Lengths are held against it before anything of them is read."""

    def __init__(self, descriptor: int, size: int, path: Path) -> None:
        self._descriptor, self._size, self._path, self._at = descriptor, size, path, 0
        self._window, self._first = b"", 0

    def settings(self) -> dict[str, int]:
        """The model's sizes; the reader stands before the first tensor then."""
        if self._take(4) != MAGIC:
            self._fail("is no ggml file")
        found = {name: self._number() for name in SETTINGS}
        plausible = all(0 < value <= LARGEST for name, value in found.items() if name != "ftype")
        if not plausible or found["d_model"] % found["encoder_attention_heads"] or found["num_mel_bins"] > 1024:
            raise UnsupportedFormat("is a ggml file, but none of a whisper model", path=self._path, remedy=OTHER)
        mel, fft = self._number(), self._number()
        if mel > 1024 or mel * fft > MAX_FILTERS:
            self._fail(f"claims {mel:,} x {fft:,} filters")
        self._pass(4 * mel * fft)
        words = self._number()
        if words > LARGEST:
            self._fail(f"claims {words:,} words")
        for _ in range(words):
            length = self._number()
            if length > MAX_WORD:
                self._fail(f"claims a word of {length:,} bytes")
            self._pass(length)
        return found

    def entries(self) -> Iterator[_Entry]:
        """The tensors up to the end of the file. Raises SourceError."""
        count = 0
        while self._at < self._size:
            count += 1
            axes, length, number = self._number(), self._number(), self._number()
            if not 1 <= axes <= 4 or not 1 <= length <= MAX_NAME or count > MAX_TENSORS:
                self._fail("has a tensor that is none")
            shape = tuple(self._number() for _ in range(axes))[::-1]
            name = self._take(length).decode("utf-8", "replace")
            kind = self._kind(number, name)
            if not name.isprintable() or not all(shape) or shape[-1] % GGML_QUANT_SIZES[kind][0]:
                self._fail(f"has a tensor {name[:100]!r} of the impossible shape {list(shape)}")
            nbytes = stored_bytes(kind, prod(shape))
            if nbytes > self._size - self._at:
                raise DamagedFile("ends past the end of the file", path=self._path, tensor=name, remedy=FETCH_AGAIN)
            yield _Entry(name, kind, shape, self._at)
            self._at += nbytes

    def _kind(self, number: int, name: str) -> GGMLQuantizationType:
        try:
            kind = GGMLQuantizationType(number)
        except ValueError:
            self._fail(f"has the tensor {name[:100]!r} of unknown type {number}")
        if kind.name not in BITS and not is_decoded(kind):
            raise UnsupportedFormat(f"has the type {kind.name}", path=self._path, tensor=name, remedy=OTHER)
        return kind

    def _number(self) -> int:
        return int.from_bytes(self._take(4), "little")

    def _pass(self, count: int) -> None:
        if count > self._size - self._at:
            self._fail("ends early")
        self._at += count

    def _take(self, count: int) -> bytes:
        begin = self._at - self._first
        if not 0 <= begin <= begin + count <= len(self._window):
            if count > self._size - self._at:
                self._fail("ends early")
            length = min(max(count, 512 if self._at > WINDOW * 16 else WINDOW), self._size - self._at)
            self._window, self._first = bytes(read_exact(self._descriptor, self._at, length, self._path)), self._at
            begin = 0
        self._at += count
        return self._window[begin : begin + count]

    def _fail(self, problem: str) -> NoReturn:
        raise DamagedFile(f"{problem}, at byte {self._at:,}", path=self._path, remedy=FETCH_AGAIN)
