"""One file that holds a registry's models: a zip archive whose digests are a chain, so that nothing in it can change unnoticed.

    modelkin.json                    what this is: version, spec, key, number of models, digest of models.jsonl
    models.jsonl                     a line a model: names, revisions, sources, claims, digests of fingerprints
    fingerprints/<digest>.modelkin   as `modelkin fingerprint` writes them; each stored once, whoever has it

Digests are BLAKE3. The same models give the same bytes. Nothing is ever unpacked to disk.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from blake3 import blake3
from msgspec import to_builtins

from modelkin_indexer import spec
from modelkin_indexer.errors import SharedFileError
from modelkin_registry.sharing.records import SharedFingerprint, SharedModel, count, read_model

VERSION = 1  # of the file's form: others are refused by name
MANIFEST, MODELS = "modelkin.json", "models.jsonl"
MAX_MANIFEST = 1 << 16  # bytes
MAX_LINE = 64 << 20  # bytes of one model's line
MAX_FINGERPRINT = 1 << 28  # bytes; a trillion-parameter mixture of experts takes about 10 MB
EPOCH = (1980, 1, 1, 0, 0, 0)  # the time of every entry, so that the same registry gives the same file
# what a damaged archive makes the standard library raise beside BadZipFile
DAMAGE = (zlib.error, struct.error, EOFError, RuntimeError, ValueError, KeyError, MemoryError)
REMEDY = "Get it again from where it came, or export it again."
Blobs = Callable[[str], bytes]


class SharedWriter:
    """Writes such a file: models first, then the fingerprints that they named."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path, "w", allowZip64=True)
        self.models, self._wanted = 0, dict[str, None]()

    def write(self, models: Iterator[SharedModel], blob_of: Blobs) -> str:
        """Write everything. `blob_of` gives a fingerprint's bytes by digest. Returns the digest of the whole."""
        with self._zip:
            manifest = self._manifest(self._write_models(models))
            for digest in self._wanted:
                self._write(_entry_name(digest), blob_of(digest))
            self._write(MANIFEST, manifest)
        return str(blake3(manifest).hexdigest())

    def _write_models(self, models: Iterator[SharedModel]) -> str:
        hasher = blake3()
        with self._entry(MODELS, zipfile.ZIP_DEFLATED) as out:
            for model in models:
                line = json.dumps(to_builtins(model), sort_keys=True, separators=(",", ":")).encode() + b"\n"
                hasher.update(line)
                out.write(line)
                self.models += 1
                self._wanted |= dict.fromkeys(one.digest for revision in model.revisions for one in revision.fingerprints)
        return str(hasher.hexdigest())

    def _write(self, name: str, data: bytes) -> None:
        with self._entry(name, zipfile.ZIP_STORED) as out:
            out.write(data)

    def _manifest(self, digest: str) -> bytes:
        said = {"version": VERSION, "spec": spec.VERSION, "key": spec.PUBLIC, "models": self.models, "models_digest": digest}
        return json.dumps(said | {"fingerprints": len(self._wanted)}, indent=1, sort_keys=True).encode()

    def _entry(self, name: str, how: int) -> Any:
        info = zipfile.ZipInfo(name, EPOCH)
        info.compress_type, info.external_attr = how, 0o644 << 16
        return self._zip.open(info, "w", force_zip64=True)


class SharedReader:
    """Reads such a file, however hostile. Every method raises SharedFileError where the file is not what it says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._sound():
            self._zip = zipfile.ZipFile(path)
        try:
            with self._sound():
                manifest = self._whole(MANIFEST, MAX_MANIFEST)
                self.digest = str(blake3(manifest).hexdigest())
                self._said = _parsed(manifest)
                self._check_manifest()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._zip.close()

    @property
    def models(self) -> int:
        """Number of models that the file says it holds."""
        return int(self._said["models"])

    def read(self) -> Iterator[SharedModel]:
        """Every model, in the file's order. That all of them came through unharmed is certain only when the iteration has ended."""
        hasher, found = blake3(), 0
        with self._sound(), self._zip.open(MODELS) as lines:
            while line := lines.readline(MAX_LINE):
                hasher.update(line)
                found += 1
                if not line.endswith(b"\n"):
                    raise ValueError(f"line {found} of {MODELS} is cut off or too long")
                yield read_model(_parsed(line))
            if hasher.hexdigest() != self._said["models_digest"] or found != self.models:
                raise ValueError(f"{MODELS} is not what {MANIFEST} says")

    def blob(self, shared: SharedFingerprint) -> bytes:
        """A fingerprint's bytes, held against its digest."""
        with self._sound():
            data = self._whole(_entry_name(shared.digest), min(shared.size, MAX_FINGERPRINT))
            if len(data) != shared.size or blake3(data).hexdigest() != shared.digest:
                raise ValueError(f"fingerprint {shared.digest[:16]} is not what {MODELS} says")
            return data

    def _whole(self, name: str, limit: int) -> bytes:
        with self._zip.open(name) as entry:
            data = entry.read(limit + 1)
        if len(data) > limit:
            raise ValueError(f"{name} is longer than it may be")
        return data

    def _check_manifest(self) -> None:
        said = self._said
        if not isinstance(said, dict) or not {"version", "spec", "key", "models", "models_digest", "fingerprints"} <= said.keys():
            raise ValueError(f"{MANIFEST} is none")
        if said["version"] != VERSION:
            raise self._refused(f"of version {said['version']!r}, this modelkin reads version {VERSION}", "Upgrade modelkin.")
        if said["spec"] != spec.VERSION:
            remedy = "Ask for an export made with this version, or index the weights again."
            raise self._refused(f"holds fingerprints of spec {said['spec']!r}, this version reads {spec.VERSION!r}", remedy)
        if said["key"] != spec.PUBLIC:
            raise self._refused("made with a private key", "Only registries of the public key are shared.")
        names = self._zip.namelist()
        allowed = {MANIFEST, MODELS}
        strangers = [name for name in names if name not in allowed and not name.startswith("fingerprints/")]
        if strangers or len(set(names)) != len(names) or len(names) != count(said["fingerprints"]) + len(allowed):
            raise ValueError("it holds other entries than an export does")
        count(said["models"])

    def _refused(self, problem: str, remedy: str) -> SharedFileError:
        return SharedFileError(f"{self.path}: {problem}. {remedy}")

    @contextmanager
    def _sound(self) -> Iterator[None]:
        try:
            yield
        except zipfile.BadZipFile as error:
            raise self._refused(f"no registry export, or a damaged one ({error})", REMEDY) from error
        except OSError as error:
            raise self._refused(f"cannot be read ({error.strerror or error})", "Check that it is there and may be read.") from error
        except DAMAGE as error:
            raise self._refused(f"damaged: {' '.join(str(error).split())[:300] or type(error).__name__}", REMEDY) from error


def _parsed(data: bytes) -> Any:
    return json.loads(data.decode("utf-8"), parse_constant=_no_number)


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _entry_name(digest: str) -> str:
    return f"fingerprints/{digest}.modelkin"
