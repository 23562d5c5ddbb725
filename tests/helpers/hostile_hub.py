"""Answers that a hostile Hub may give on loopback: endless, packed, slow, leading round in circles or away, malformed.

Each is a function of the server's handler, for `Hub.hostile`. They send zeros and brackets, until the client hangs up.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Iterator
from itertools import count, repeat
from typing import Any

from hub_server import Handler, Hub

Answer = Callable[[Handler], None]
PIECE = 1 << 16
NAMED = {"sha": "0" * 40, "lastModified": "2026-01-01T00:00:00.000Z"}
BUSY, FOUND = 503, 302


def send(handler: Handler, pieces: Iterator[bytes], status: int = 200, pause: float = 0.0, **headers: str) -> None:
    """An answer piece by piece, with a pause before each; of unknown length unless a header tells it."""
    handler.close_connection = "Content_Length" not in headers
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    for piece in pieces:
        time.sleep(pause)
        handler.wfile.write(piece)


def endless(opening: bytes = b'{"id": "', filler: bytes = b" " * PIECE, status: int = 200, **headers: str) -> Answer:
    return lambda handler: send(handler, _then(opening, filler), status, **headers)


def packed(handler: Handler) -> None:
    """Zeros without end, a thousandth of their size on the line."""
    pack = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    send(handler, (pack.compress(piece) + pack.flush(zlib.Z_SYNC_FLUSH) for piece in _then(b"[0", b",0" * PIECE)), Content_Encoding="gzip")


def packed_twice(handler: Handler) -> None:
    send(handler, _then(b"", b"\0" * PIECE), Content_Encoding="gzip, gzip, gzip")


def whole(data: bytes, status: int = 200, **headers: str) -> Answer:
    """A body of known length."""

    def answer(handler: Handler) -> None:
        send(handler, iter([data]), status, Content_Length=str(len(data)), **headers)

    return answer


def slow_body(pause: float) -> Answer:
    return lambda handler: send(handler, repeat(b" "), pause=pause)


def slow_head(pause: float) -> Answer:
    """A header of one byte in each pause."""

    def answer(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while True:
            time.sleep(pause)
            handler.wfile.write(b"a")

    return answer


def interim(pause: float) -> Answer:
    """Status 102 again and again, which is no answer yet."""

    def answer(handler: Handler) -> None:
        while True:
            time.sleep(pause)
            handler.wfile.write(b"HTTP/1.1 102 Processing\r\n\r\n")

    return answer


def silent(handler: Handler) -> None:
    handler.close_connection = True
    handler.connection.recv(1)  # until the client hangs up


def redirected(to: str) -> Answer:
    return whole(b"", FOUND, Location=to)


def redirected_without_end(handler: Handler) -> None:
    """To another address each time, after a body that does not end."""
    send(handler, _then(b"", b" " * PIECE), FOUND, Location=f"{handler.path}x")


def pages(link: Callable[[int], str], entries: Callable[[int], list[Any]]) -> Answer:
    """A list whose page N holds `entries(N)` and leads on to `link(N)`."""
    numbers = count()

    def answer(handler: Handler) -> None:
        number = next(numbers)
        whole(json.dumps(entries(number)).encode(), Link=f'<{link(number)}>; rel="next"')(handler)

    return answer


def entry(number: int) -> dict[str, str]:
    return {"id": f"many/m{number}", **NAMED}


def described(hub: Hub, name: str, change: Callable[[dict[str, Any]], object]) -> Answer:
    """The description of a repository, changed."""
    said = hub.repos[name].described(True)
    change(said)
    return whole(json.dumps(said).encode())


def _then(opening: bytes, filler: bytes) -> Iterator[bytes]:
    yield opening
    yield from repeat(filler)
