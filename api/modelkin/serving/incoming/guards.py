"""Before and after every request: who may ask, how often, and what a browser may do with the answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelkin.serving.incoming.refusals import Refusal
from modelkin.serving.wishes import ServeWishes

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # without any, browsers name no origin of a form that is sent
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
LOOPBACK_NAMES = {"localhost", "127.0.0.1", "::1"}
BURST = 10.0  # seconds' worth of units that somebody who has not asked for a while has at once
QUESTION = 10  # units of a request that has something worked out
MOST_ADDRESSES = 10_000  # remembered
QUESTIONS = frozenset(("/ask", "/compare", "/model", "/relatives", "/tree", "/api/query", "/api/compare", "/api/relatives", "/api/tree"))


class Rate:
    """A bucket of units for every address, filled at one rate."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._left: dict[str, tuple[float, float]] = {}  # address -> units, and when that was

    def wait(self, address: str, units: float) -> float:
        """Take so many units. 0, or the seconds until there are so many; nothing is taken then."""
        if not self._rate:
            return 0.0
        now, full = self._clock(), self._rate * BURST
        left, at = self._left.pop(address, (full, now))
        left = min(full, left + (now - at) * self._rate)
        enough = left >= min(units, full)
        self._left[address] = (left - units if enough else left, now)
        while len(self._left) > MOST_ADDRESSES:
            del self._left[next(iter(self._left))]  # who has not asked for longest
        return 0.0 if enough else (units - left) / self._rate


class Guard:
    """The whole application behind these."""

    def __init__(self, app: ASGIApp, wishes: ServeWishes, refused: Callable[[str, Exception], Response]) -> None:
        self._app, self._wishes, self._refused = app, wishes, refused
        self._rate = Rate(wishes.rate)
        self.requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.requests += 1

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check(scope)
        except Refusal as refusal:
            await self._refused(scope["path"], refusal)(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._wishes.is_loopback and _name_of(host) not in {*LOOPBACK_NAMES, self._wishes.host}:
            raise Refusal(421, "WrongHost", "this is asked under a name that is not this machine's", "Use http://localhost and the port.")
        origin = headers.get("origin")
        if scope["method"] not in ("GET", "HEAD") and origin is not None and urlsplit(origin).netloc != host:
            raise Refusal(403, "OtherSite", "another site's page has sent this", "Send it from a page of this site.")
        units = QUESTION if scope["path"] in QUESTIONS else 1
        if (seconds := self._rate.wait(_whole_network(scope), units)) > 0:
            again = str(int(seconds) + 1)
            remedy = f"Wait {again} s; --rate sets how much may be asked."
            raise Refusal(429, "TooMany", "too much was asked from this address", remedy, {"Retry-After": again})


def _name_of(host: str) -> str:
    """A host without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _whole_network(scope: Scope) -> str:
    """Whom a request counts for: an address; of version 6 the network of 64 bits, all of which is one household's."""
    client = scope.get("client")
    try:
        address = ip_address(client[0].partition("%")[0] if client else "")
    except ValueError:
        return ""
    return str(address) if address.version == 4 else str(ip_network((int(address), 64), strict=False))
