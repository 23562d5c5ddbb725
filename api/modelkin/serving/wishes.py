"""What a page for others may do, where it listens, and what is told of it."""

from __future__ import annotations

import hashlib
import hmac
from ipaddress import ip_address
from pathlib import Path

from msgspec import Struct

from modelkin.wishes import HOST, PORT, RATE
from modelkin_indexer.errors import ServeError
from modelkin_registry.answers.plain import CONTRACT, Plain

SHORTEST_TOKEN = 24  # characters: 16 random bytes in base64
FINGERPRINT_BYTES = 16 << 20  # of a fingerprint that is sent: the largest known, of some 300 layers with experts, has a fifth of it
MEGABYTE = 1_000_000


class ServeWishes(Struct, frozen=True):
    """What a call asks of a page.

    host, port   where it listens; port 0 takes a free one
    read_only    no model is taken in, and answers are kept in no folder: they last as long as this does
    token_file   tokens, one a line: who sends one of them may add and remove models
    hub          Hub ids that are not registered may be asked about: this machine reads them
    weights      megabytes of a file of weights that may be sent; 0: fingerprints alone
    rate         units a second from one address, 0 without bound
    answers      the folder that answers are kept in; by default one beside the registry
    paths        tell where on this machine models came from
    language     of the pages
    """

    host: str = HOST
    port: int = PORT
    read_only: bool = False
    token_file: Path | None = None
    hub: bool = False
    weights: int = 0
    rate: float = RATE
    answers: Path | None = None
    paths: bool = False
    language: str = "en"

    def checked(self) -> ServeWishes:
        """The same. Raises ValueError for wishes that contradict each other."""
        if self.read_only and (self.token_file is not None or self.answers is not None):
            raise ValueError("read_only takes no models in and keeps no answers: leave token_file and answers out with it.")
        if self.weights < 0 or self.rate < 0 or not 0 <= self.port <= 65535:
            raise ValueError("weights and rate are not negative, and port is one of 0 to 65535.")
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether this machine alone can reach it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class Served(Plain, frozen=True):
    """A page that is there, or was: its address, the registry with its models, and what it allows. `requests`: those answered by now."""

    url: str
    registry: str
    models: int
    read_only: bool
    writing: bool
    hub: bool
    weights: int
    answers: str | None
    requests: int
    contract: int = CONTRACT


class Tokens:
    """Who may write. Only digests are kept."""

    def __init__(self, file: Path | None) -> None:
        """Read them. Raises ServeError."""
        self._digests = () if file is None else tuple(_digest(token) for token in _tokens_in(file))

    def __bool__(self) -> bool:
        return bool(self._digests)

    def knows(self, token: str) -> bool:
        """Whether this is one of them; how long that takes tells nothing of it."""
        given = _digest(token)
        return sum(hmac.compare_digest(given, one) for one in self._digests) > 0


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _tokens_in(file: Path) -> list[str]:
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is no text"
        raise ServeError(f"{file}: {why}. Give a file with a token a line.") from None
    tokens = [line for line in lines if line and not line.startswith("#")]
    if not tokens:
        raise ServeError(
            f"{file}: holds no token. Write one a line, e.g. from `python -c 'import secrets; print(secrets.token_urlsafe())'`."
        )
    if short := sum(len(token) < SHORTEST_TOKEN for token in tokens):
        raise ServeError(f"{file}: {short} of {len(tokens)} tokens have fewer than {SHORTEST_TOKEN} characters and could be guessed.")
    return tokens
