"""One request and its answer, bounded in bytes and in seconds from the first byte of the name's look-up to the last of the body.

A timeout for each read does not bound an answer: a byte now and then, in its head or its body, keeps it open for ever. So exchanges run on
one event loop in a thread of their own, where the whole of one can be cancelled; callers are threads that wait for theirs. Redirects are
followed here too, since whoever follows them has to decide at each which headers go along, and must not read their bodies to the end.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import zlib
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, BinaryIO, TypeVar

import httpx2
from huggingface_hub import get_async_session, get_session
from msgspec import Struct, field

from modelkin_indexer.hub import limits
from modelkin_indexer.hub.errors import BadAnswer, Cut

PORTS = {"http": 80, "https": 443}
CONTENT = (200, 206)  # what has a body that is wanted
FOR_HOME = ("authorization",)  # headers that hold a token
CLOSING = 2.0  # seconds that open connections get at the end of the process
Origin = tuple[str, str, int | None]
Result = TypeVar("Result")


class Call(Struct, frozen=True):
    """What is asked. `own` are the headers for the origin of `home`, of which others get none that is secret; `headers` go to all.

    `most` is how many bytes of a body are taken, which is `packed` where gzip is understood, and written `into` a file where one is given.
    """

    url: str
    home: str
    own: Mapping[str, str]
    most: int
    headers: Mapping[str, str] = field(default_factory=dict)
    packed: bool = False
    into: BinaryIO | None = None

    def headers_for(self, url: httpx2.URL) -> dict[str, str]:
        """The token goes to the endpoint's own origin only."""
        is_home = origin(url) == origin(address(self.home))
        own = {name: value for name, value in self.own.items() if is_home or name.lower() not in FOR_HOME}
        return {**own, "Accept-Encoding": "gzip" if self.packed else "identity", **self.headers}


class Answer(Struct, frozen=True):
    """What came. `hops` are the headers of the redirects before it; `size` the bytes of `data`, or of what was written.

    `over`: more came than was to be taken, and was not read.
    """

    status: int
    url: str
    headers: httpx2.Headers
    hops: tuple[httpx2.Headers, ...]
    data: bytearray
    size: int
    over: bool


def exchange(call: Call, seconds: float) -> Answer:
    """The answer to a call, whatever its status; only one with content has a body.

    Raises:
        TimeoutError: it had not ended after so many seconds.
        BadAnswer: it is of a kind that is not taken.
        httpx2.TransportError: no connection, or one that was silent for too long; Cut where it broke in mid-body.
    """
    line = _line()
    return line.run(_exchanged(line.client, call, seconds))


def address(url: str) -> httpx2.URL:
    """Raises BadAnswer for what is none that is asked."""
    try:
        found = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as error:
        raise BadAnswer("an address cannot be read") from error
    if found.scheme not in PORTS or not found.host or len(url) > limits.LINK:
        raise BadAnswer(f"{url[:80]!r} is no address of the web")
    return found


def origin(url: httpx2.URL) -> Origin:
    """Scheme, host and port."""
    return url.scheme, url.host, url.port or PORTS.get(url.scheme)


def joined(url: httpx2.URL, there: str) -> httpx2.URL:
    """An address that an answer of `url` gives. Raises BadAnswer for one that leads away from https."""
    try:
        found = address(str(url.join(there[: limits.LINK + 1])))
    except (httpx2.InvalidURL, ValueError) as error:
        raise BadAnswer("an address that it gives cannot be read") from error
    if (url.scheme, found.scheme) == ("https", "http"):
        raise BadAnswer(f"it leads from https to {str(found)[:80]!r}")
    return found


async def _exchanged(client: httpx2.AsyncClient, call: Call, seconds: float) -> Answer:
    url = address(call.url)
    hops: list[httpx2.Headers] = []
    idle = httpx2.Timeout(limits.IDLE, pool=None)
    async with asyncio.timeout(seconds):
        while len(hops) <= limits.HOPS:
            async with client.stream("GET", url, headers=call.headers_for(url), follow_redirects=False, timeout=idle) as response:
                if response.status_code not in CONTENT:
                    await _drain(response)
                if response.has_redirect_location:
                    url = joined(url, response.headers["location"])
                    hops.append(response.headers)
                    continue
                data, size = bytearray(), 0
                if response.status_code in CONTENT:
                    size = await _body(response, call, data)
                over = size > call.most
                return Answer(response.status_code, str(url), response.headers, tuple(hops), data, min(size, call.most), over)
    raise BadAnswer(f"it sends on more than {limits.HOPS} times")


async def _drain(response: httpx2.Response) -> None:
    """Read a short body that nobody needs; a long one's connection is closed."""
    size = 0
    with suppress(httpx2.TransportError):
        async for chunk in response.aiter_raw():
            size += len(chunk)
            if size > limits.DRAINED:
                return


async def _body(response: httpx2.Response, call: Call, data: bytearray) -> int:
    """Take the body, into `data` or the call's file. Returns its bytes once decompressed; of more than `most`, `most + 1`."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity" and not (call.packed and encoding == "gzip"):
        raise BadAnswer(f"its content is encoded as {encoding[:40]!r}, which was not asked for")
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16) if encoding == "gzip" else None
    if call.into is not None:  # another try may have written there
        call.into.seek(0)
        call.into.truncate()
    came = size = 0
    try:
        async for chunk in response.aiter_raw():
            came += len(chunk)
            piece = unpack.decompress(chunk, call.most + 1 - size) if unpack else chunk[: call.most + 1 - size]
            size += len(piece)
            if max(came, size) > call.most:
                return call.most + 1
            if call.into is None:
                data += piece
            else:
                call.into.write(piece)
    except httpx2.TransportError as error:
        raise Cut(f"{size:,} bytes came: {error}") from error
    except zlib.error as error:
        raise BadAnswer("its content cannot be decompressed") from error
    return size


def bounded(do: Callable[[], Result], seconds: float) -> Result:
    """What calls of huggingface_hub's own come to, whose answers it would read whole and for ever: in so many seconds, and few bytes each.

    Raises:
        BadAnswer: they had not ended in time; what is left of them ends with the process.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            with _bounded_session():
                future.set_result(do())
        except BaseException as error:  # raised where the result is waited for
            future.set_exception(error)

    threading.Thread(target=run, name="hub-upload", daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError as error:
        raise BadAnswer(f"it had not ended after {seconds:,.0f} s", passing=True) from error


@contextmanager
def _bounded_session() -> Iterator[None]:
    session = get_session()
    hooks, timeout = session.event_hooks, session.timeout
    session.event_hooks, session.timeout = {**hooks, "response": [_bound, *hooks["response"]]}, httpx2.Timeout(limits.IDLE)
    try:
        yield
    finally:
        session.event_hooks, session.timeout = hooks, timeout


def _bound(response: httpx2.Response) -> None:
    """A short body, packed once at most, and no word of how long to wait."""
    for name in ("retry-after", "ratelimit"):
        response.headers.pop(name, None)
    if "," in response.headers.get("content-encoding", ""):
        raise BadAnswer("its content is packed several times")
    assert isinstance(response.stream, httpx2.SyncByteStream)
    response.stream = _ShortStream(response.stream)


class _ShortStream(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self._stream:
            size += len(chunk)
            if size > limits.DRAINED:  # a thousand times that once it is decompressed
                raise BadAnswer(f"it is longer than {limits.DRAINED:,} bytes")
            yield chunk

    def close(self) -> None:
        self._stream.close()


class _Line:
    """The event loop of all exchanges of this process, and the client whose connections they share."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.client = get_async_session()  # as huggingface_hub was told to make them
        self.client.event_hooks = {"request": self.client.event_hooks["request"]}  # those of responses read bodies without a bound
        self.client.cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))  # none is kept
        self._thread = threading.Thread(target=self.loop.run_forever, name="hub", daemon=True)
        self._thread.start()

    def run(self, what: Coroutine[Any, Any, Result]) -> Result:
        future = asyncio.run_coroutine_threadsafe(what, self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self.client.aclose(), self.loop).result(CLOSING)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(CLOSING)


_lines: list[_Line] = []
_lock = threading.Lock()


def _line() -> _Line:
    with _lock:
        if not _lines:
            _lines.append(_Line())
        return _lines[0]


@atexit.register
def _close() -> None:
    while _lines:
        _lines.pop().close()


os.register_at_fork(after_in_child=_lines.clear)  # threads do not follow a fork
