"""What all requests of a page share: the registry's threads, its models to browse by, the answers, and what is allowed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from modelkin.keys import read_key
from modelkin.registries import open_registry
from modelkin.reporting.texts import texts_of
from modelkin.serving.incoming.guards import QUESTION
from modelkin.serving.incoming.refusals import Refusal
from modelkin.serving.incoming.sent import Sent
from modelkin.serving.wishes import FINGERPRINT_BYTES, MEGABYTE, ServeWishes, Tokens
from modelkin.serving.working.asking import Asking
from modelkin.serving.working.catalogue import Allowed, Catalogue
from modelkin.serving.working.kept import Kept, Record
from modelkin.serving.working.questions import Questions, Side
from modelkin.serving.working.workers import Workers
from modelkin.settings import Settings
from modelkin.sources.naming import HUB_ID, HUB_PREFIX
from modelkin.sources.reading import reading_of
from modelkin.wishes import HowToRead, Listener
from modelkin_indexer.errors import ServeError
from modelkin_registry.registry import Registry

READERS, READERS_WAITING = 4, 1024  # threads that look something up, and how many requests wait for them
ASKERS, ASKERS_WAITING = 2, 64  # threads that work something out: each takes a processor
FOREVER = "private, max-age=31536000, immutable"
LOOK_AGAIN = "private, no-cache"
MOST_CONTROLS = 4


class Site:
    """Everything but the words over HTTP. A context manager: the threads end with it."""

    def __init__(self, settings: Settings, wishes: ServeWishes, listener: Listener) -> None:
        """Open the registry once, to see that it can be.

        Raises:
            RegistryError: the registry cannot be opened.
            ServeError: no tokens, or no place for answers.
            ReportError: a language that there are no texts of.
        """
        self.wishes, self.say = wishes, texts_of(wishes.language)
        self.listener = Listener(announce=listener.announce, fault=listener.fault)
        self.tokens = Tokens(wishes.token_file)
        self.key = read_key(settings.key_file)
        with open_registry(settings, say=listener.say) as registry:
            self.path, self.name = registry.store.path, registry.store.name
            place = registry.store.place
            self.catalogue = Catalogue(paths=wishes.paths)
            self.models = registry.store.count()
        self._settings = replace(settings, registry=place)
        self.kept = _kept(wishes, self.path)
        self.how = HowToRead(self.key, threads=1, offline=settings.offline or not wishes.hub)
        self.readers = Workers(self._opened, READERS, READERS_WAITING)
        self.askers = Workers(self._opened, ASKERS, ASKERS_WAITING)
        self.asking = Asking(self.readers, self.askers, self.kept)
        self.questions = Questions(self._settings, self.how, self.say, self.listener, paths=wishes.paths)
        self.sent = Sent(wishes, self.how, self.listener, self.askers)
        self.allowed = Allowed(
            rate=wishes.rate,
            question=QUESTION,
            fingerprint_bytes=FINGERPRINT_BYTES,
            weights_bytes=wishes.weights * MEGABYTE,
            hub=wishes.hub and not settings.offline,
            writing=bool(self.tokens),
            answers=self.kept.lasts,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.askers.close()
        self.readers.close()
        self.kept.close()

    def _opened(self) -> Registry:
        return open_registry(self._settings, say=lambda words: None)

    # questions

    async def relatives(self, name: str) -> tuple[Record, bool]:
        """The answer of a registered model, and whether it is kept."""
        return await self.asking.answer(("relatives", name), lambda registry: self.questions.relatives(registry, name))

    async def tree(self, name: str) -> tuple[Record, bool]:
        return await self.asking.answer(("tree", name), lambda registry: self.questions.tree(registry, name))

    async def query(self, side: Side) -> tuple[Record, bool]:
        """The answer of what was sent."""
        sent = side.reading
        assert sent is not None
        question = ("query", sent.name, sent.origin, tuple((one.name, one.digest) for one in sent.files))
        return await self.asking.answer(question, lambda registry: self.questions.query(registry, sent))

    async def compare(self, a: Side, b: Side, controls: tuple[Side, ...]) -> tuple[Record, bool]:
        if len(controls) > MOST_CONTROLS:
            raise Refusal(400, "UsageError", f"there are more than {MOST_CONTROLS} controls")
        sides = [(one.name, () if one.reading is None else tuple(one.reading.files)) for one in (a, b, *controls)]
        question = ("compare", tuple(sides))
        return await self.asking.answer(question, lambda registry: self.questions.compare(registry, a, b, controls))

    async def of_hub(self, name: str) -> Side:
        """A model of the Hub, read there. Raises Refusal where that is not allowed, SourceError."""
        plain = name.removeprefix(HUB_PREFIX)
        if not HUB_ID.fullmatch(plain):
            raise Refusal(400, "UsageError", f"{name!r} is no Hub id", "One is made of two names: org/name.")
        if not self.allowed.hub:
            raise Refusal(
                403, "HubForbidden", f"{plain!r} is not registered, and the Hub is not asked here", "`modelkin serve --hub` asks it."
            )
        reading = await self.askers.do(
            lambda registry: reading_of(f"{HUB_PREFIX}{plain}", self.how, self.listener, registry.store),
        )
        return Side(reading.name, reading)

    def may_write(self, request: Request) -> None:
        """Raises Refusal for a request without one of the tokens."""
        if not self.tokens:
            raise Refusal(
                403, "ReadOnly", "nothing is written here", "`modelkin serve --token-file FILE` lets those write who have a token."
            )
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not self.tokens.knows(token.strip()):
            challenge = {"WWW-Authenticate": 'Bearer realm="modelkin"'}
            raise Refusal(401, "NoToken", "this needs a token", "Send `Authorization: Bearer TOKEN`.", challenge)


def _kept(wishes: ServeWishes, registry: Path) -> Kept:
    """Where answers are kept: the folder that is named, else one beside the registry; while nothing may be written one for this process."""
    folder = wishes.answers or registry.with_name(f"{registry.name}.answers")
    try:
        return Kept(None if wishes.read_only else folder)
    except OSError as error:
        remedy = "Give another folder with --answers, or leave nothing with --read-only."
        raise ServeError(f"{folder}: answers cannot be kept there ({error.strerror}). {remedy}") from error


def whole(request: Request, text: str, kind: str, keeping: str = LOOK_AGAIN, number: int = 200) -> Response:
    """A response with its ETag; 304 without a body for somebody who has it already."""
    body = text.encode()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": keeping}
    known = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    if number == 200 and (tag in known or "*" in known):
        return Response(status_code=304, headers=headers)
    return Response(body, number, headers, kind)
