"""NeMo's archives: a tar with the checkpoint of PyTorch in it, read where it lies.

https://docs.nvidia.com/nemo-framework/user-guide/latest/nemotoolkit/checkpoints/intro.html
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.sources.pytorch.reader import open_zip, presented_of
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.stored.decoded import DecodedSource, Origin
from modelkin_indexer.sources.stored.extents import OpenFiles
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, PICK, read_exact
from modelkin_indexer.sources.stored.zip_files import BoundedFile

CHECKPOINT = "model_weights.ckpt"
MAX_MEMBERS = 10_000  # files in an archive; public ones have some dozens
COMPRESSED = (b"\x1f\x8b", b"BZ", b"\xfd7", b"\x28\xb5")
UNPACK = "Unpack it with tar, and name the checkpoint inside."


def open_weights(weights: Weights) -> DecodedSource:
    """Open one archive.

    Raises:
        SourceError: it is damaged or compressed, has no checkpoint or several, or that would run code.
    """
    if len(weights.files) != 1:
        raise UnsupportedFormat("is made of shards", path=weights.path, remedy=f"NeMo models are one archive; {PICK}")
    path, files = weights.files[0], OpenFiles()
    try:
        descriptor = files.descriptor(number := files.open(path))
        size = files.sizes[number]
        if bytes(read_exact(descriptor, 0, min(2, size), path)) in COMPRESSED:
            raise UnsupportedFormat("is a compressed archive", path=path, remedy=UNPACK)
        if size % tarfile.BLOCKSIZE:
            raise DamagedFile(f"has {size:,} bytes, which no tar archive has", path=path, remedy=f"The file is cut short. {FETCH_AGAIN}")
        found = [(start, length) for name, start, length in _members(descriptor, size, path) if name.rpartition("/")[2] == CHECKPOINT]
        if len(found) != 1:
            what = f"holds {len(found)} checkpoints, cut for several devices" if found else f"is an archive without {CHECKPOINT}"
            raise UnsupportedFormat(what, path=path, remedy=UNPACK)
        ((start, length),) = found
        if start + length > size:
            raise DamagedFile(f"ends before its {CHECKPOINT}", path=path, remedy=f"The file is cut short. {FETCH_AGAIN}")
        if bytes(read_exact(descriptor, start, min(2, length), path)) != b"PK":
            raise UnsupportedFormat(f"has a {CHECKPOINT} of an older form", path=path, remedy=UNPACK)
        file = open_zip(path, descriptor, start + length)  # the zip archive's directory is found from its end
        presented = {name: presented_of(file, name, stored) for name, stored in file.found.tensors.items()}
        notes = (*weights.notes, *file.found.notes)
        origin = Origin(weights.path, weights.name, (SourceFile(path.name, size),), {}, notes, header_bytes=file.header_bytes)
        return DecodedSource(origin, presented, files.close)
    except BaseException:
        files.close()
        raise


def _members(descriptor: int, size: int, path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, first byte and length of each plain file in the archive. Raises SourceError."""
    try:
        with tarfile.open(fileobj=BoundedFile(descriptor, 0, size, path), mode="r:") as archive:
            for count, member in enumerate(archive):
                if count >= MAX_MEMBERS:
                    raise UnsupportedFormat(f"holds more than {MAX_MEMBERS:,} files", path=path, remedy=UNPACK)
                if member.isreg() and not member.issparse():
                    yield member.name, member.offset_data, member.size
    except (tarfile.TarError, ValueError, EOFError, OSError, OverflowError) as error:
        raise DamagedFile(f"is no sound tar archive ({str(error)[:200]})", path=path, remedy=FETCH_AGAIN) from error
