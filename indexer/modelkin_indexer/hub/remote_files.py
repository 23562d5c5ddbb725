"""A repository's files as a local folder of names and sizes, whose bytes come from the Hub as they are asked for."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from modelkin_indexer.errors import DamagedFile, SourceError
from modelkin_indexer.hub import limits
from modelkin_indexer.hub.cache import RangeCache, cache_key
from modelkin_indexer.hub.client import HubClient
from modelkin_indexer.hub.described import Repo
from modelkin_indexer.hub.errors import HubError
from modelkin_indexer.hub.folders import Needed, stand_in
from modelkin_indexer.hub.ranges import CHANGED, RangeReader
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.sources.safetensors.header import LENGTH_BYTES, MAX_HEADER, SUFFIX
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, bytes_from

CONNECTIONS = 16  # ranges fetched at once
GAP = 64 << 10  # bytes between two ranges that are fetched as one: about what 16 connections bring while one waits for its answer
PIECE = 8 << 20  # bytes of one request at most
BLOCK = {"probe": 64 << 10, "full": PIECE}  # bytes around those that nobody planned to read
WHOLE = 1 << 20  # bytes of a file that is always fetched whole, and its digest checked
HEAD = 64 << 10  # bytes of a larger file that are fetched first: most headers
MAPPED = (".tflite", ".litertlm", ".task", ".ptd", ".pte")  # files whose reader maps them into memory: for phones
Wanted = tuple[str, int, int]  # file, first byte, byte after the last
Told = Callable[[int], None]


class RemoteFiles:
    """The needed files of one repository. `reader` counts requests and bytes."""

    def __init__(self, client: HubClient, repo: Repo, needed: Needed, cache: RangeCache, level: str) -> None:
        self.reader, self.cache, self._block = RangeReader(client, repo), cache, BLOCK[level]
        self.files = {file.name: file for file in (*needed.weights, *needed.others)}
        self._needed = needed
        self._keys = {file.name: cache_key(client.endpoint, _identity(repo, file)) for file in self.files.values()}
        self._lock = threading.Lock()
        self._coming: dict[Wanted, Future[bytearray]] = {}
        self._noted: list[Wanted] | None = None
        self.root = Path()

    def fill(self, path: Path, start: int, out: memoryview) -> None:
        """Bytes of one of the files, from byte `start` on. Raises SourceError."""
        file = self.files[path.relative_to(self.root).as_posix()]
        if start + len(out) > file.size:
            raise DamagedFile(f"ends at byte {file.size:,}, before byte {start + len(out):,}", path=path, remedy=FETCH_AGAIN)
        for low, high in self.cache.read(self._keys[file.name], start, out):
            part = out[low - start : high - start]
            if self._noted is None:
                self._bring(file, low, part)
            else:
                self._noted.append((file.name, low, high))
                part[:] = bytes(len(part))

    @contextmanager
    def noting(self) -> Iterator[list[Wanted]]:
        """While the block runs, what is not at hand is noted and taken for zeros. For one thread at a time."""
        self._noted = []
        try:
            yield self._noted
        finally:
            self._noted = None

    def fetch_heads(self) -> None:
        """What is read of any repository of this kind: the small files whole, and the headers of the large ones."""
        mapped = [file for file in self._needed.weights if file.name.endswith(MAPPED)]
        for file in mapped:
            if file.size > limits.MAPPED:
                where = f"{self.reader.repo.name}/{file.name}"
                raise HubError(
                    f"has {file.size:,} bytes, more than {limits.MAPPED:,}",
                    path=where,
                    remedy="Fetch it with `hf download`, and name the file.",
                )
        large = [file for file in self._needed.weights if not self._is_whole(file)]
        small = [file.name for file in self.files.values() if file not in large]
        self.fetch([(name, 0, self.files[name].size) for name in small] + [(file.name, 0, HEAD) for file in large])
        self.fetch([(file.name, HEAD, self._header_end(file)) for file in large if file.name.endswith(SUFFIX)])
        for file in mapped:
            self._bring_whole(file)

    def fetch(self, wanted: Iterable[Wanted], told: Told = lambda _: None) -> None:
        """Bring ranges to hand, many at once, near ones together. `told` hears of bytes that came. Raises HubError."""
        pieces = list(self.pieces(wanted))
        with ThreadPoolExecutor(min(CONNECTIONS, max(1, len(pieces))), thread_name_prefix="ranges") as pool:
            try:
                for count in pool.map(lambda piece: len(self._come(*piece)), pieces):
                    told(count)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def pieces(self, wanted: Iterable[Wanted]) -> Iterator[Wanted]:
        """The requests that bring ranges which are not at hand."""
        missing = sorted(
            (name, *gap)
            for name, start, stop in wanted
            for gap in self.cache.missing(self._keys[name], start, min(stop, self.files[name].size))
        )
        joined: list[Wanted] = []
        for name, start, stop in missing:
            if joined and joined[-1][0] == name and start <= joined[-1][2] + GAP:
                joined[-1] = (name, joined[-1][1], max(joined[-1][2], stop))
            else:
                joined.append((name, start, stop))
        for name, start, stop in joined:
            if self._is_whole(self.files[name]):
                yield name, 0, self.files[name].size
            else:
                yield from ((name, at, min(at + PIECE, stop)) for at in range(start, stop, PIECE))

    def _is_whole(self, file: SourceFile) -> bool:
        """Whether a file comes in one piece, and its digest is checked."""
        return file.size <= max(WHOLE, self._block) or file in self._needed.others

    def _bring_whole(self, file: SourceFile) -> None:
        """The bytes of a file into the folder itself."""
        self.fetch([(file.name, 0, file.size)])
        path = self.root / file.name
        with path.open("r+b") as out:
            for start in range(0, file.size, PIECE):
                data = bytearray(min(PIECE, file.size - start))
                self.fill(path, start, memoryview(data))
                out.write(data)

    def _header_end(self, file: SourceFile) -> int:
        """Of a safetensors file. What it says is checked when it is read."""
        length = bytearray(LENGTH_BYTES)
        self.fill(self.root / file.name, 0, memoryview(length))
        return min(LENGTH_BYTES + min(int.from_bytes(length, "little"), MAX_HEADER), file.size)

    def _bring(self, file: SourceFile, start: int, out: memoryview) -> None:
        """What was not at hand, with the block around it."""
        stop, at = start + len(out), start
        while at < stop:
            if self._is_whole(file):
                low, high = 0, file.size
            else:
                low = at - at % self._block
                high = min(-(-stop // self._block) * self._block, low + PIECE, file.size)
            data = self._come(file.name, low, high)
            end = min(high, stop)
            out[at - start : end - start] = memoryview(data)[at - low : end - low]
            at = end

    def _come(self, name: str, start: int, stop: int) -> bytearray:
        """A range from the Hub, kept. Threads that ask for the same one at once wait for one request."""
        with self._lock:
            future = self._coming.get((name, start, stop))
            is_mine = future is None
            if future is None:
                future = self._coming[name, start, stop] = Future()
        if not is_mine:
            return future.result()
        try:
            with self.reader.client.in_flight.holding(stop - start):
                data = self.reader.read(file := self.files[name], start, stop)
                if stop - start == file.size:
                    self._check(file, data)
                self.cache.put(self._keys[name], start, data)
            future.set_result(data)
        except BaseException as error:
            future.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._coming[name, start, stop]
        return data

    def _check(self, file: SourceFile, data: bytearray) -> None:
        """That a whole file is the one that was announced. Raises HubError."""
        kind, _, digest = file.digest.rpartition(":")
        is_git = kind == "git"
        found = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False) if is_git else hashlib.sha256(data)
        if digest and found.hexdigest() != digest:
            where = f"{self.reader.repo.name}/{file.name}"
            raise HubError("what came is not the file that the Hub announced", path=where, remedy=CHANGED, passing=True)


@contextmanager
def remote_folder(files: RemoteFiles, beside: Path | None = None) -> Iterator[Path]:
    """The files as a folder called as the repository, in a folder of its own in `beside`. Errors of its files name the repository.

    Raises:
        SourceError: names that no folder can have.
    """
    name = files.reader.repo.name
    with TemporaryDirectory(prefix="modelkin-", dir=beside) as made:
        top = Path(made).resolve()
        files.root = top / name
        try:
            files.root.mkdir(parents=True)
            for file in files.files.values():
                stand_in(files.root / file.name, file.size)
            with bytes_from(files.root, files.fill):
                yield files.root
        except SourceError as error:
            error.path = error.path.replace(f"{top}/", "")
            error.args = (str(error).replace(f"{top}/", ""),)
            raise


def _identity(repo: Repo, file: SourceFile) -> str:
    """What a file's content is known by."""
    return file.digest if file.digest not in ("", "git:") else f"{repo.name}@{repo.commit}/{file.name}"
