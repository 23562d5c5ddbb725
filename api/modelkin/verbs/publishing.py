"""Answers for others: pages to hand on, and evidence that they can check."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Unpack

from msgspec.structs import replace

from modelkin.answering.comparing import Pair
from modelkin.evidencing import Evidenced, Verified, check_evidence, write_evidence
from modelkin.keys import read_key
from modelkin.made import Input, made
from modelkin.registries import OnDemand
from modelkin.reporting.view import Answer
from modelkin.serving.running import served
from modelkin.serving.wishes import Served, ServeWishes
from modelkin.sources.naming import FINGERPRINT_SUFFIX
from modelkin.verbs.calls import Call, ReadingCall, asked_settings_of, demanded, how_of, key_files_of, listener_of, opened
from modelkin.wishes import HOST, PORT, RATE, Asked, OpenRegistry
from modelkin_indexer.errors import RegistryError
from modelkin_indexer.results.fingerprint import load
from modelkin_indexer.spec import PUBLIC
from modelkin_registry.answers.asked import CompareAnswer, DecomposeAnswer, QueryAnswer
from modelkin_registry.answers.plain import CONTRACT, Plain
from modelkin_registry.answers.relations import is_descent
from modelkin_registry.answers.trajectory import TrajectoryAnswer
from modelkin_registry.answers.tree import TreeAnswer
from modelkin_registry.questions import Questions
from modelkin_registry.registry import Registry
from modelkin_registry.screening.results import Screening

AROUND = 1  # steps of the family tree around the nearest relative


class Reported(Plain, frozen=True):
    """The files that a report was written to, the page first."""

    files: tuple[str, ...]
    language: str
    contract: int = CONTRACT


def report(
    answer: Answer,
    file: str | os.PathLike[str],
    *,
    language: str = "en",
    command: str = "",
    models: Sequence[Asked] = (),
    **call: Unpack[Call],
) -> Reported:
    """Write an answer as a page: HTML that needs nothing from outside, Markdown with pictures beside it, or PDF (extra `pdf`).

    Args:
        answer: what `query`, `compare`, `decompose`, `tree`, `trajectory` or `screen` returned.
        file: ends in .html, .md or .pdf; a file of that name is replaced.
        language: "en" or "ko".
        command: what makes the answer again, as the page shall tell it.
        models: the checkpoints of a trajectory or parents of a merge, and whatever else was asked about and the answer does not name by
            its path; their files are digested.

    Raises:
        ReportError: another suffix or language, or PDF without WeasyPrint.
        OSError: the file cannot be written.
    """
    from modelkin.reporting.texts import texts_of  # templates are for reports alone
    from modelkin.reporting.writing import report_path, write_report

    path, _ = report_path(file), texts_of(language)
    key, file_of_key = _key(answer, call)
    one_key: Call = {**call, "key_file": file_of_key}
    settings, listener = asked_settings_of(one_key), listener_of(call)
    with demanded(one_key) as on_demand:
        registry = _asked(answer, on_demand)
        asked = _models(answer, models)
        told = made(key=key, command=command, asked=asked, registry=registry, listener=listener, offline=settings.offline)
        if isinstance(answer, Screening):  # which has the digests already
            told = replace(told, inputs=tuple(Input("submission", one.submission, "files", one.digest, ()) for one in answer.results))
        tree = _tree(answer, registry)
        written = write_report(answer, told, path, language, _subject(answer), tree)
    return Reported(tuple(map(str, written)), language)


def evidence(
    a: Asked,
    b: Asked,
    target: str | os.PathLike[str],
    *,
    controls: Sequence[Asked] = (),
    forms: Sequence[str] = (),
    command: str = "",
    **call: Unpack[ReadingCall],
) -> Evidenced:
    """Write the comparison of A with B into one file that others can check without trusting whoever wrote it: `Registry.evidence`."""
    with demanded(call) as registry:
        return write_evidence(Pair(a, b, controls), target, forms, how_of(call), registry, listener_of(call), command)


def verify(bundle: str | os.PathLike[str], *, weights: Sequence[Asked] = (), **call: Unpack[ReadingCall]) -> Verified:
    """Make every number of a bundle of evidence again, from its fingerprints, or from weights: `Registry.verify`."""
    with demanded(call) as registry:
        return check_evidence(bundle, weights, how_of(call), registry, listener_of(call))


def serve(
    *,
    host: str = HOST,
    port: int = PORT,
    read_only: bool = False,
    token_file: str | os.PathLike[str] | None = None,
    hub: bool = False,
    weights: int = 0,
    rate: float = RATE,
    answers: str | os.PathLike[str] | None = None,
    paths: bool = False,
    language: str = "en",
    each: Callable[[Served], None] | None = None,
    starter: bool = True,
    **call: Unpack[Call],
) -> Served:
    """Serve a registry as pages for a browser, and as JSON, until the process is told to end: `Registry.serve` (extra `serve`).

    `starter`: begin a new registry of the user's own with the models that come with modelkin.
    """
    told = ServeWishes(host, port, read_only, _path(token_file), hub, weights, rate, _path(answers), paths, language)
    with opened(call, starter=starter) as registry:
        settings = replace(registry.settings, registry=registry.place)
    return served(settings, told, listener_of(call), each or (lambda _: None))


def _path(given: str | os.PathLike[str] | None) -> Path | None:
    return None if given is None else Path(given)


def _key(answer: Answer, call: Call) -> tuple[str, Path | None]:
    """The id of the key that an answer was made under, and which of the call's files has it."""
    files = key_files_of(call)
    told = answer.registry.key if isinstance(answer, (QueryAnswer, DecomposeAnswer)) and answer.registry is not None else None
    told = answer.key if isinstance(answer, Screening) else told
    if told is None and isinstance(answer, (CompareAnswer, DecomposeAnswer)):
        source = Path(answer.a.source if isinstance(answer, CompareAnswer) else answer.query.source)
        told = load(source).about.key if source.suffix == FINGERPRINT_SUFFIX and source.is_file() else None
    if told is None and isinstance(registry := call.get("registry"), OpenRegistry):
        told = read_key(registry.settings.key_file).name
    known = {read_key(file).name: file for file in files}
    if told is None:
        told = next(iter(known), PUBLIC)
    return told, known.get(told)


def _asked(answer: Answer, registry: OnDemand) -> Questions | None:
    """The registry that the answer is of; None where it was made without one."""
    alone = isinstance(answer, CompareAnswer) or (isinstance(answer, DecomposeAnswer) and answer.registry is None)
    if isinstance(answer, TrajectoryAnswer) and registry.may_be_absent(starter=False):
        return None
    if alone and registry.opened is None and not registry.is_named:
        return None
    try:
        return registry.get()
    except RegistryError:
        return None  # an answer without a registry, or of one that has gone since


def _models(answer: Answer, models: Sequence[Asked]) -> list[tuple[str, Asked]]:
    """The models of an answer with their roles."""
    if isinstance(answer, CompareAnswer):
        given: list[tuple[str, Asked]] = [("a", answer.a.source), ("b", answer.b.source)]
        return [*given, *(("control", one) for one in models)]
    if isinstance(answer, QueryAnswer):
        nearest = [("relative", one.model) for one in answer.relatives[:1]]
        return [("query", answer.query.source), *nearest]
    if isinstance(answer, DecomposeAnswer):
        return [("query", answer.query.source), *(("parent", one) for one in models)]
    return [("checkpoint", one) for one in models]


def _tree(answer: Answer, registry: Questions | None) -> TreeAnswer | None:
    if (
        not isinstance(answer, QueryAnswer)
        or not isinstance(registry, Registry)
        or not any(is_descent(one) for one in answer.relatives[:1])
    ):
        return None
    return registry.tree(answer.relatives[0].model, depth=AROUND)


def _subject(answer: Answer) -> str:
    if isinstance(answer, (TreeAnswer, TrajectoryAnswer, Screening)):
        return ""
    source = answer.a.source if isinstance(answer, CompareAnswer) else answer.query.source
    return Path(source).name or "model"
