"""Files that somebody sends: read within bounds, and told apart by what they are."""

from __future__ import annotations

import asyncio
import hashlib
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec.structs import replace
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.types import Message, Receive

from modelkin.serving.incoming.refusals import Refusal
from modelkin.serving.wishes import FINGERPRINT_BYTES, MEGABYTE, ServeWishes
from modelkin.serving.working.workers import Workers
from modelkin.sources.naming import FINGERPRINT_SUFFIX
from modelkin.sources.reading import reading_of
from modelkin.wishes import HowToRead, Listener, Reading
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.results.fingerprint import from_bytes
from modelkin_indexer.sources.register import weights_suffixes

FORM_BYTES = 64 << 10  # of a form beside its files
MOST_FILES, MOST_FIELDS = 2, 8
SECONDS, SLOWEST = 30.0, 100_000  # a body has so long, and a second more for so many bytes of what may be sent
LONGEST_NAME = 100  # characters of a file's name that are kept
NAMES = re.compile(r"[^\w.+-]+")


class Sent:
    """What may be sent to this page."""

    def __init__(self, wishes: ServeWishes, how: HowToRead, listener: Listener, workers: Workers) -> None:
        """`workers`: those who read what was sent."""
        self._workers, self._weights = workers, wishes.weights * MEGABYTE
        self._how, self._listener = how, listener

    @property
    def most_bytes(self) -> int:
        return max(FINGERPRINT_BYTES, self._weights)

    @asynccontextmanager
    async def form(self, request: Request) -> AsyncIterator[FormData]:
        """A form with its files. Raises Refusal: too large, too slow, or no form."""
        most = self.most_bytes + FORM_BYTES
        bounded = Request(request.scope, _bounded(request, most))
        kind = request.headers.get("content-type", "").partition(";")[0]
        if kind not in ("multipart/form-data", "application/x-www-form-urlencoded"):
            raise Refusal(415, "WrongKind", "a form was expected", "Send multipart/form-data.")
        async with _in_time(most):
            form = await bounded.form(max_files=MOST_FILES, max_fields=MOST_FIELDS, max_part_size=FORM_BYTES)
        try:
            yield form
        finally:
            await form.close()

    async def body(self, request: Request, most: int) -> bytes:
        """What was sent, as it is. Raises Refusal."""
        async with _in_time(most):
            return b"".join([piece async for piece in Request(request.scope, _bounded(request, most)).stream()])

    async def reading_of_form(self, file: UploadFile) -> Reading:
        """A file of a form, read. Raises Refusal, FingerprintError, SourceError."""
        name = file_name(file.filename or "")
        self._allow(name, file.size or 0)
        if name.endswith(FINGERPRINT_SUFFIX):
            return await self.fingerprint_of(await file.read(), name)
        with tempfile.TemporaryDirectory(prefix="modelkin-sent-") as folder:
            path = Path(folder) / name
            await asyncio.to_thread(_copy, file, path)
            return await self._workers.do(lambda _: self._weights_of(path))

    async def reading_of_body(self, request: Request, name: str) -> Reading:
        """The body of a request, read as a file of that name. Raises Refusal, FingerprintError, SourceError."""
        name = file_name(name or f"sent{FINGERPRINT_SUFFIX}")
        self._allow(name, 0)
        if name.endswith(FINGERPRINT_SUFFIX):
            return await self.fingerprint_of(await self.body(request, FINGERPRINT_BYTES), name)
        with tempfile.TemporaryDirectory(prefix="modelkin-sent-") as folder:
            path = Path(folder) / name
            with path.open("wb") as file:
                async with _in_time(self._weights):
                    async for piece in Request(request.scope, _bounded(request, self._weights)).stream():
                        file.write(piece)
            return await self._workers.do(lambda _: self._weights_of(path))

    async def fingerprint_of(self, data: bytes, name: str) -> Reading:
        """The fingerprint that these bytes are. Raises FingerprintError."""
        return await self._workers.do(lambda _: _fingerprint(name, data))

    def _allow(self, name: str, size: int) -> None:
        """Raises Refusal for what may not be sent."""
        if name.endswith(FINGERPRINT_SUFFIX):
            if size > FINGERPRINT_BYTES:
                raise _too_large(FINGERPRINT_BYTES)
            return
        remedy = f"Send a fingerprint: `modelkin fingerprint MODEL -o MODEL{FINGERPRINT_SUFFIX}` writes it."
        if not self._weights:
            raise Refusal(415, "WrongKind", f"{name}: fingerprints alone may be sent here, not weights", remedy)
        if not name.lower().endswith(weights_suffixes()):
            raise Refusal(415, "WrongKind", f"{name}: neither a fingerprint nor a file of weights by its name", remedy)
        if size > self._weights:
            raise _too_large(self._weights)

    def _weights_of(self, path: Path) -> Reading:
        """Weights in a folder of their own. Nothing of where they lay here is told."""
        found = reading_of(path, self._how, self._listener)
        files = tuple(replace(one, digest=f"sha256:{_sha256(path)}") for one in found.files)
        return replace(found, name=path.name, origin="", files=files)


def file_name(given: str) -> str:
    """The last part of a file's name as somebody calls it, in letters that are no path anywhere."""
    name = NAMES.sub("_", re.split(r"[/\\]", given)[-1]).lstrip(".")
    return name[-LONGEST_NAME:] or "sent"


def _fingerprint(name: str, data: bytes) -> Reading:
    fingerprint = from_bytes(data, name)
    file = SourceFile(name, len(data), f"sha256:{hashlib.sha256(data).hexdigest()}")
    return Reading(name.removesuffix(FINGERPRINT_SUFFIX) or "sent", fingerprint, "", (file,))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(file: UploadFile, path: Path) -> None:
    file.file.seek(0)
    with path.open("wb") as copy:
        while piece := file.file.read(1 << 20):
            copy.write(piece)


def _bounded(request: Request, most: int) -> Receive:
    """What a request sends, up to so many bytes. Raises Refusal."""
    told = request.headers.get("content-length", "0")
    if not told.isdecimal() or int(told) > most:
        raise _too_large(most)
    came = 0

    async def receive() -> Message:
        nonlocal came
        message = await request.receive()
        came += len(message.get("body", b""))
        if came > most:
            raise _too_large(most)
        return message

    return receive


@asynccontextmanager
async def _in_time(most: int) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(SECONDS + most / SLOWEST):
            yield
    except TimeoutError:
        raise Refusal(408, "TooSlow", "what was sent did not come in time", "Send it again.") from None


def _too_large(most: int) -> Refusal:
    return Refusal(413, "TooLarge", f"what was sent is larger than the {most:,} bytes that are taken here", "Send a smaller file.")
