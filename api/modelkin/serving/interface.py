"""The same answers as JSON: each operation with what its description tells of it, so that the two cannot part."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from msgspec import Struct
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from modelkin.serving.incoming.queries import name_in, require_known, wanted_in
from modelkin.serving.incoming.refusals import Refusal
from modelkin.serving.incoming.sent import file_name
from modelkin.serving.site import FOREVER, Site, whole
from modelkin.serving.wishes import FINGERPRINT_BYTES
from modelkin.serving.working.catalogue import SORTS, Browsed, RegistryTold, Wanted
from modelkin.serving.working.kept import Record
from modelkin.serving.working.questions import Side
from modelkin.taking.adding import Batch
from modelkin_registry.answers.asked import CompareAnswer, QueryAnswer
from modelkin_registry.answers.plain import Plain
from modelkin_registry.answers.tree import TreeAnswer
from modelkin_registry.answers.upkeep import Added, Removed, Shown
from modelkin_registry.registry import Registry
from modelkin_registry.sharing.giving_out import last_part

JSON = "application/json"
BYTES = "application/octet-stream"
Handler = Callable[[Site, Request], Awaitable[Response]]


class Parameter(Struct, frozen=True):
    """One field of a query. `kind`: its JSON type."""

    name: str
    words: str
    required: bool = False
    kind: str = "string"
    several: bool = False


class Operation(Struct, frozen=True):
    """One thing that can be asked: what it is, what it takes, what it answers, and what does it."""

    method: str
    path: str
    summary: str
    answer: type[Plain]
    handler: Handler
    parameters: tuple[Parameter, ...] = ()
    body: str = ""
    writes: bool = False


def checked(operation: Operation) -> Handler:
    """An operation's handler, behind a look at whether all that is asked is in its description. Raises Refusal."""
    known = [one.name for one in operation.parameters]

    async def handle(site: Site, request: Request) -> Response:
        require_known(request.query_params, known)
        return await operation.handler(site, request)

    return handle


async def registry(site: Site, request: Request) -> Response:
    """The registry in numbers."""
    return _plain(request, await numbers_of(site))


async def models(site: Site, request: Request) -> Response:
    """Models that meet what is wanted."""
    return _plain(request, await found_of(site, wanted_in(request.query_params)))


async def model(site: Site, request: Request) -> Response:
    """All that is known of one."""
    return _plain(request, await shown(site, name_in(request.query_params)))


async def relatives(site: Site, request: Request) -> Response:
    """What one is closest to."""
    return _answer(request, *await site.relatives(name_in(request.query_params)))


async def tree(site: Site, request: Request) -> Response:
    """The tree around one."""
    return _answer(request, *await site.tree(name_in(request.query_params)))


async def compare(site: Site, request: Request) -> Response:
    """One against another."""
    query = request.query_params
    controls = tuple(Side(name_in({"control": one}, "control")) for one in query.getlist("control") if one)
    return _answer(request, *await site.compare(Side(name_in(query, "a")), Side(name_in(query, "b")), controls))


async def query(site: Site, request: Request) -> Response:
    """What something that is sent is closest to."""
    if hub := request.query_params.get("hub", ""):
        return _answer(request, *await site.query(await site.of_hub(hub)))
    reading = await site.sent.reading_of_body(request, request.query_params.get("file", ""))
    return _answer(request, *await site.query(Side(reading.name, reading)))


async def add(site: Site, request: Request) -> Response:
    """A fingerprint taken in."""
    site.may_write(request)
    name = name_in(request.query_params)
    origin = file_name(request.query_params.get("file", "") or f"{name}.modelkin")
    fingerprint = await site.sent.fingerprint_of(await site.sent.body(request, FINGERPRINT_BYTES), origin)

    def added(registry: Registry) -> Added:
        (done,) = Batch(registry, site.how, site.listener, replace=False).add([fingerprint], name)
        return done

    done = await site.askers.do(added)
    if done.status == "failed":
        raise Refusal(409, "NotAdded", done.reason or "it could not be added")
    return _plain(request, replace(done, source=origin))


async def remove(site: Site, request: Request) -> Response:
    """A model forgotten."""
    site.may_write(request)
    name = name_in(request.query_params)

    def removed(registry: Registry) -> Removed:
        model = registry.show(name)["model"]
        registry.remove(model)
        return Removed((model,))

    return _plain(request, await site.askers.do(removed))


async def kept(site: Site, request: Request) -> Response:
    """An answer that was given before, byte for byte."""
    record = await site.asking.of_digest(request.path_params["digest"])
    if record is None:
        raise Refusal(404, "NotKept", "no answer of this digest is kept here", "Ask the question again.")
    return whole(request, record.answer, JSON, FOREVER)


async def found_of(site: Site, wanted: Wanted) -> Browsed:
    """The models that meet what is wanted."""
    return await site.readers.do(lambda registry: site.catalogue.found(registry, wanted))


async def numbers_of(site: Site) -> RegistryTold:
    """The registry in numbers, with what is allowed."""
    return await site.readers.do(lambda registry: site.catalogue.numbers(registry, site.allowed))


async def shown(site: Site, name: str) -> Shown:
    """All that is known of a model; where on this machine it came from only where that may be told. Raises UnknownModel."""

    def told(registry: Registry) -> Shown:
        known, weighed = registry.show(name), registry.weighed_claims(name)
        if not site.wishes.paths:
            for revision in known["revisions"]:
                for source in revision["sources"]:
                    source["origin"] = last_part(source["origin"])
            known["claims"] = [claim for claim in known["claims"] if last_part(claim["value"]) == claim["value"]]
            weighed = tuple(claim for claim in weighed if last_part(claim.value) == claim.value)
        return Shown(**{**known, "weighed_claims": weighed})

    return await site.readers.do(told)


def _plain(request: Request, answer: Plain) -> Response:
    return whole(request, json.dumps(answer.to_dict(), allow_nan=False, ensure_ascii=False), JSON)


def _answer(request: Request, record: Record, is_kept: bool) -> Response:
    response = whole(request, record.answer, JSON)
    if is_kept:
        response.headers["Link"] = f'</api/answers/{record.digest}>; rel="bookmark"'
    return response


NAME = Parameter("name", "A registered model, also by a former name, or one of its revisions as name@digits.", required=True)
TEXTS: tuple[tuple[str, str], ...] = (
    ("text", "Only those with this in their names."),
    ("author", "Only those of this person or organisation: what stands before the slash."),
    ("component", "Only those with this component: text, vision, audio, ..."),
    ("level", "Only those whose fingerprint is of this level: probe or full."),
    ("sender", "Only those that came with this file of another registry."),
    ("since", "Only those added on this day or later: 2026-01-31."),
    ("sort", f"By what: {', '.join(SORTS)}; the largest and newest first."),
)
NUMBERS: tuple[tuple[str, str], ...] = (
    ("least", "Only those with so many parameters or more."),
    ("most", "Only those with so many parameters or fewer."),
    ("start", "Pass over so many."),
    ("count", "Tell so many at most: 50, and never more than 100."),
)
BROWSING = (*(Parameter(*one) for one in TEXTS), *(Parameter(*one, kind="integer") for one in NUMBERS))
PAIR = (
    Parameter("a", "A registered model.", required=True),
    Parameter("b", "Another one.", required=True),
    Parameter("control", "Third models: a figure that they reach too says nothing of A and B.", several=True),
)
FILE = Parameter("file", "The name of the file that is sent; its ending tells what it is. Without, a fingerprint.")
HUB = Parameter("hub", "A Hub id (org/name) in place of a file, where the Hub may be asked.")
OPERATIONS = (
    Operation("GET", "/api/registry", "The registry in numbers, and what may be asked.", RegistryTold, registry),
    Operation("GET", "/api/models", "Browse the registered models.", Browsed, models, BROWSING),
    Operation("GET", "/api/model", "Everything known of a registered model but its vectors.", Shown, model, (NAME,)),
    Operation("GET", "/api/relatives", "What a registered model is closest to, itself left out.", QueryAnswer, relatives, (NAME,)),
    Operation("GET", "/api/tree", "The family tree around a registered model.", TreeAnswer, tree, (NAME,)),
    Operation("GET", "/api/compare", "Two registered models held against each other.", CompareAnswer, compare, PAIR),
    Operation("POST", "/api/query", "What a fingerprint that is sent is closest to.", QueryAnswer, query, (FILE, HUB), BYTES),
    Operation("GET", "/api/answers/{digest}", "An answer that was given before, byte for byte.", Plain, kept),
    Operation("POST", "/api/model", "Add a fingerprint that is sent.", Added, add, (NAME, FILE), BYTES, writes=True),
    Operation("DELETE", "/api/model", "Forget a model.", Removed, remove, (NAME,), writes=True),
)
