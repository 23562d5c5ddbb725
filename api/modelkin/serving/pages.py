"""The pages of a browser: what is asked for, put into templates. Nothing here needs a script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from msgspec import to_builtins
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from modelkin.made import release
from modelkin.reporting import figures
from modelkin.reporting.page import environment
from modelkin.reporting.texts import Texts
from modelkin.serving.incoming.queries import LEVELS, name_in, require_known, wanted_in
from modelkin.serving.incoming.refusals import Refusal, told
from modelkin.serving.interface import BROWSING, OPERATIONS, found_of, numbers_of, shown
from modelkin.serving.site import LOOK_AGAIN, Site, whole
from modelkin.serving.working.catalogue import SORTS
from modelkin.serving.working.kept import Record
from modelkin.serving.working.questions import Side, address_of
from modelkin.sources.naming import HUB_ID
from modelkin.words import size
from modelkin_indexer.errors import ModelkinError, UnknownModel
from modelkin_registry.answers.claims import WeighedClaim

HTML = "text/html"
MOST_AT_ONCE = 5_000  # registered models up to which a model's page waits for its relatives and its tree: a second together
NEWEST = 10  # models on the first page


async def home(site: Site, request: Request) -> Response:
    """The search box, and what came last."""
    newest = await found_of(site, wanted_in({"sort": "added", "count": str(NEWEST)}))
    return _page(site, request, "home", site.say("serve", "title"), newest=newest, numbers=await numbers_of(site))


async def search(site: Site, request: Request) -> Response:
    """The page of the model of this name, or those that have it in theirs."""
    text = request.query_params.get("q", "").strip()
    there: bool = await site.readers.do(lambda registry: text in registry.store)
    if text and there:
        return RedirectResponse(address_of(text), 303)
    found = await found_of(site, wanted_in({"text": text}))
    if not found.found and HUB_ID.fullmatch(text):
        return _page(site, request, "hub", text, number=404 if not site.allowed.hub else 200, name=text)
    return RedirectResponse(f"/models?{urlencode({'text': text})}", 303)


async def models(site: Site, request: Request) -> Response:
    """Models to browse, by what they are asked for."""
    require_known(request.query_params, [one.name for one in BROWSING])
    wanted = wanted_in(request.query_params)
    found = await found_of(site, wanted)
    asked = {name: value for name, value in to_builtins(wanted).items() if value not in ("", None) and (name, value) != ("start", 0)}
    before, after = max(wanted.start - wanted.count, 0), wanted.start + wanted.count
    pages = {
        "before": "" if not wanted.start else f"/models?{urlencode({**asked, 'start': before})}",
        "after": "" if after >= found.found else f"/models?{urlencode({**asked, 'start': after})}",
    }
    return _page(site, request, "models", site.say("serve", "models"), found=found, wanted=wanted, pages=pages)


async def model(site: Site, request: Request) -> Response:
    """A model: what it claims beside what its weights show, its relatives, the tree around it, its revisions and where they came from."""
    name = name_in(request.query_params)
    try:
        known = await shown(site, name)
    except UnknownModel as error:
        raise Refusal(404, "UnknownModel", site.say("serve", "unknown", name=name), site.say("serve", "unknown-remedy")) from error
    answer, tree, trouble = await site.asking.known(("relatives", name)), await site.asking.known(("tree", name)), ""
    if await site.readers.do(site.catalogue.size) <= MOST_AT_ONCE:
        try:
            answer, tree = answer or (await site.relatives(name))[0], tree or (await site.tree(name))[0]
        except ModelkinError as error:  # such as a fingerprint of an older spec: the rest is told all the same
            trouble = told(error, site.name)[1].message
    claims = [_weighed(one, site.say) for one in known.weighed_claims]
    return _page(site, request, "model", known.model, model=known, asked_as=name, claims=claims, answer=answer, tree=tree, trouble=trouble)


async def relatives(site: Site, request: Request) -> Response:
    """The answer for a registered model, under its own address."""
    return _to_answer(site, request, *await site.relatives(name_in(request.query_params)))


async def tree(site: Site, request: Request) -> Response:
    """The tree around a registered model, under its own address."""
    return _to_answer(site, request, *await site.tree(name_in(request.query_params)))


async def ask(site: Site, request: Request) -> Response:
    """The answer for a file that is sent, or for a model of the Hub."""
    async with site.sent.form(request) as form:
        hub = _text(form, "hub")
        side = await site.of_hub(hub) if hub else await _sent(site, form, "file")
    if side is None:
        raise Refusal(400, "UsageError", site.say("serve", "no-file"))
    return _to_answer(site, request, *await site.query(side))


async def compare(site: Site, request: Request) -> Response:
    """The form of a comparison, or the answer to it."""
    query = request.query_params
    is_question = request.method != "POST"
    if is_question and not (query.get("a") and query.get("b")):
        return _page(site, request, "compare", site.say("serve", "compare"), a=query.get("a", ""), b=query.get("b", ""))
    if is_question:
        a, b = Side(name_in(query, "a")), Side(name_in(query, "b"))
        control = query.get("control", "").strip()
    else:
        async with site.sent.form(request) as form:
            sides = [await _sent(site, form, f"{role}_file") or _named(site, form, role) for role in ("a", "b")]
            control = _text(form, "control")
        a, b = sides
    return _to_answer(site, request, *await site.compare(a, b, (Side(control),) if control else ()))


async def answer(site: Site, request: Request) -> Response:
    """An answer that was given before."""
    record = await site.asking.of_digest(request.path_params["digest"])
    if record is None:
        raise Refusal(404, "NotKept", site.say("serve", "not-kept"), site.say("serve", "not-kept-remedy"))
    return _page(site, request, "answer", record.title, record=record, is_kept=True)


async def registry(site: Site, request: Request) -> Response:
    """The registry in numbers, what may be asked here, and what weights never show."""
    return _page(site, request, "registry", site.say("serve", "registry"), numbers=await numbers_of(site))


async def interface(site: Site, request: Request) -> Response:
    """What can be asked as JSON."""
    return _page(site, request, "interface", site.say("serve", "interface"), operations=OPERATIONS)


def error_page(site: Site, number: int, message: str, remedy: str | None) -> str:
    """What somebody sees in place of a page."""
    title = site.say("serve", f"error-{number}" if f"error-{number}" in site.say.table["serve"] else "error")
    return _rendered(site, "error", title, message=message, remedy=remedy)


def _weighed(claim: WeighedClaim, say: Texts) -> tuple[str, ...]:
    relation = say.known("relation", claim.relation) if claim.relation else figures.NOTHING
    return (f"{claim.kind}: {claim.value}", claim.model or figures.NOTHING, claim.source, relation, claim.verdict)


def _to_answer(site: Site, request: Request, record: Record, is_kept: bool) -> Response:
    """To the address of an answer, or, where it is not kept, the answer here."""
    if is_kept:
        return RedirectResponse(f"/answers/{record.digest}", 303)
    return _page(site, request, "answer", record.title, record=record, is_kept=False)


async def _sent(site: Site, form: FormData, field: str) -> Side | None:
    """The file of a form; None where none was chosen."""
    file = form.get(field)
    if not isinstance(file, UploadFile) or not file.filename:
        return None
    reading = await site.sent.reading_of_form(file)
    return Side(reading.name, reading)


def _named(site: Site, form: FormData, field: str) -> Side:
    if not (name := _text(form, field)):
        raise Refusal(400, "UsageError", site.say("serve", "no-side", side=field.upper()))
    return Side(name_in({field: name}, field))


def _text(form: FormData, field: str) -> str:
    value = form.get(field)
    return value.strip() if isinstance(value, str) else ""


def _page(
    site: Site, request: Request, template: str, title: str, *, keeping: str = LOOK_AGAIN, number: int = 200, **given: Any
) -> Response:
    return whole(request, _rendered(site, template, title, **given), HTML, keeping, number)


def _rendered(site: Site, template: str, title: str, **given: Any) -> str:
    about: Mapping[str, Any] = {
        "site": site,
        "say": site.say,
        "title": title,
        "address": address_of,
        "release": release(),
        "count": figures.count,
        "size": size,
        "quote": lambda text: quote(text, safe=""),
        "sorts": SORTS,
        "levels": LEVELS,
    }
    return environment("modelkin.serving").get_template(f"{template}.html.j2").render({**about, **given})
