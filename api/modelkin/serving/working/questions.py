"""Questions to an open registry, and their answers as they are kept: JSON by the contract, and the sections of a page.

A name that somebody sent is looked up in the registry, and is never a path of this machine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import quote

from msgspec import Struct
from msgspec.structs import replace

from modelkin.answering import asking, comparing
from modelkin.answering.nearest import Search
from modelkin.made import Input, input_of, made, registered_input, registry_digest
from modelkin.registries import OnDemand
from modelkin.reporting.page import html_sections
from modelkin.reporting.texts import Texts
from modelkin.reporting.view import Answer, View, view_of
from modelkin.serving.working.kept import Record
from modelkin.settings import Settings
from modelkin.wishes import HowToRead, Listener, Reading
from modelkin_registry.answers.asked import SHOWN, QueryAnswer
from modelkin_registry.answers.plain import to_plain
from modelkin_registry.registry import Registry
from modelkin_registry.sharing.giving_out import last_part

State = tuple[int, str]  # the registry's last change, and when its own backgrounds were measured
MOST_DIGESTED = 1_000  # models of a registry whose contents are listed for its digest; a thousandth of a second each
NEAR = 1  # steps of the family tree around a model


def address_of(model: str) -> str:
    """Where a registered model has its page. In a query, because browsers take `..` out of paths."""
    return f"/model?name={quote(model, safe='')}"


class Side(Struct, frozen=True):
    """A model of a question: the registered one of that name, or what was sent (`reading`)."""

    name: str
    reading: Reading | None = None

    def read(self, registry: Registry, *, paths: bool) -> Reading:
        """What is known of it; claims that name a folder of some machine only with `paths`. Raises UnknownModel."""
        if self.reading is not None:
            return self.reading
        claims = tuple(claim for claim in registry.claims_of(self.name) if paths or last_part(claim.value) == claim.value)
        return Reading(self.name, registry.get(self.name), "", (), (), claims, tuple(registry.structure_of(self.name)))


class Questions:
    """What the threads that ask do. Every answer tells how it was made, by a request that makes it again."""

    def __init__(self, settings: Settings, how: HowToRead, say: Texts, listener: Listener, *, paths: bool) -> None:
        self._paths = paths
        self._settings, self._how, self._say, self._listener = settings, how, say, listener
        self._digest: tuple[State, str | None] | None = None

    def relatives(self, registry: Registry, name: str) -> Record:
        """What a registered model is closest to beside itself. Raises UnknownModel."""
        registry.refresh()
        own = Side(name).read(registry, paths=self._paths)
        answer = registry.query(own.fingerprint, source=name, claims=own.claims, structure=own.structure, besides=name)
        asked = [("query", Side(name)), *(("relative", Side(one.model)) for one in answer.relatives[:1])]
        return self._record(registry, answer, f"GET /api/relatives?name={quote(name, safe='')}", asked)

    def query(self, registry: Registry, sent: Reading) -> Record:
        """What something that was sent, or read from the Hub, is closest to. Raises FingerprintError."""
        registry.refresh()
        answer = asking.query(registry, sent, self._how, self._listener, Search(SHOWN))
        asked = [("query", Side(sent.name, sent)), *(("relative", Side(one.model)) for one in answer.relatives[:1])]
        request = f"POST /api/query?{'hub' if sent.remote else 'file'}={quote(sent.name, safe='')}"
        return self._record(registry, answer, request, asked)

    def compare(self, registry: Registry, a: Side, b: Side, controls: Sequence[Side]) -> Record:
        """Two models held against each other. Raises UnknownModel, FingerprintError."""
        sides = [one.read(registry, paths=self._paths) for one in (a, b, *controls)]
        demand = OnDemand(self._settings, self._listener.say, registry)
        pair = comparing.Pair(sides[0], sides[1], sides[2:])
        answer = comparing.compare(pair, self._how, demand, self._listener)
        named = [("a", a.name), ("b", b.name), *(("control", one.name) for one in controls)]
        request = "GET /api/compare?" + "&".join(f"{role}={quote(name, safe='')}" for role, name in named)
        asked = list(zip((role for role, _ in named), (a, b, *controls), strict=True))
        return self._record(registry, answer, request, asked)

    def tree(self, registry: Registry, name: str) -> Record:
        """The family tree around a registered model. Raises UnknownModel."""
        registry.refresh()
        answer = registry.tree(name, depth=NEAR)
        return self._record(registry, answer, f"GET /api/tree?name={quote(name, safe='')}", [("query", Side(name))])

    def _record(self, registry: Registry, answer: Answer, request: str, asked: Sequence[tuple[str, Side]]) -> Record:
        if isinstance(answer, QueryAnswer) and not self._paths:
            answer = replace(answer, relatives=tuple(replace(one, source=last_part(one.source)) for one in answer.relatives))
        inputs = tuple(_input(role, side, registry, self._listener) for role, side in asked)
        told = made(key=registry.store.key_name, command=request, asked=(), registry=None, listener=self._listener)
        told = replace(told, registry=self._registry_digest(registry), models=registry.store.count(), inputs=inputs)
        view = view_of(answer, told, None, self._say)
        subject = asked[0][1].name
        page, coda = html_sections(view, subject, self._say, address_of)
        section = html_sections(_beside_more(view), subject, self._say, address_of)[0]
        text = json.dumps({**to_plain(answer), "made": to_plain(told)}, allow_nan=False, ensure_ascii=False)
        return Record(view.title, self._say.language, text, page, section, coda)

    def _registry_digest(self, registry: Registry) -> str | None:
        if registry.store.count() > MOST_DIGESTED:
            return None
        state = state_of(registry)
        if self._digest is None or self._digest[0] != state:
            self._digest = (state, registry_digest(registry))
        return self._digest[1]


def _beside_more(view: View) -> View:
    """What of a page stands on a model's: of a tree that alone, of other answers all but the claims, which that page has itself."""
    if "tree" in view.sections:
        return View("", "", sections={name: view.sections[name] for name in ("tree", "made")})
    return replace(view, sections={name: section for name, section in view.sections.items() if name != "claims"})


def _input(role: str, side: Side, registry: Registry, listener: Listener) -> Input:
    if side.reading is None:
        return registered_input(role, side.name, registry)
    return input_of(role, side.reading, None, listener)


def state_of(registry: Registry) -> State:
    """What answers depend on: as long as it is the same, they are."""
    calibrated = registry.store.backgrounds.told()
    return registry.store.generation(), "" if calibrated is None else calibrated.measured
