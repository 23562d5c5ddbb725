"""Real models held against each other, every pair of them: relatives must be found, strangers never accused.

    python -m benchmarks.truth.real_models [--weights FOLDER]

Downloads 1.8 GB, one package at a time, unless --weights keeps them from another time. Writes benchmarks/results/real_models.json
(relatives and hard strangers one by one, all pairs as a matrix of letters) and real_models.md; exits 1 if a stranger is accused, or a
relative missed of which more is known than that its numbers correlate.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product
from pathlib import Path

from msgspec import Struct, to_builtins

from benchmarks.common.real_pairs import HARD, Truth, known_pairs
from benchmarks.common.real_weights import RealModel, fetch, read_table
from benchmarks.common.results import write_page, write_result
from modelkin_data import starter
from modelkin_indexer.errors import SourceError
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.asked import CompareAnswer, QueryAnswer
from modelkin_registry.answers.relations import DESCENT_FREE, RELATIONS
from modelkin_registry.registry import Registry

LEVELS = ("full", "probe")
LETTERS = {name: chr(ord("A") + number) for number, name in enumerate(RELATIONS)} | {"unrelated": "u", "not comparable": "."}
HARD_PAIRS = {frozenset(pair) for group in HARD for pair in combinations(group, 2)}


class Outcome(Struct, frozen=True):
    """One pair: what is true and what was said; `verdict` is right, found (descent by another name), missed, clear or accused."""

    query: str
    relative: str
    level: str
    truth: tuple[str, ...]
    basis: str
    said: str
    also: tuple[str, ...]
    shared: float
    p_value: float | None
    r: Mapping[str, float | None]
    verdict: str

    @property
    def told(self) -> bool:
        """Whether the pair is told by itself: all but easy strangers."""
        return self.verdict != "clear" or frozenset((self.query, self.relative)) in HARD_PAIRS


def outcome(query: str, relative: str, level: str, answer: CompareAnswer, known: Mapping[tuple[str, str], Truth]) -> Outcome:
    """What became of one comparison."""
    itself = Truth(("identical",), "same file") if query == relative else Truth((), "strangers")
    truth = known.get((query, relative), itself)
    r = {f"{c.query}/{f.family}": None if f.r is None else round(f.r, 4) for c in answer.components for f in c.families}
    verdict = _verdict(truth, answer.relation)
    return Outcome(
        query, relative, level, truth.relations, truth.basis, answer.relation, answer.also, answer.shared, answer.p_value, r, verdict
    )


def _verdict(truth: Truth, said: str) -> str:
    if not truth.relations:
        return "clear" if said in DESCENT_FREE else "accused"
    if said in truth.relations:
        return "right"
    return "missed" if said in DESCENT_FREE else "found"


def outcomes(fingerprints: Mapping[str, Fingerprint], level: str, registry: Registry) -> Iterator[Outcome]:
    """Every model against every model, itself included, both ways round."""
    known = known_pairs()
    for query, relative in product(fingerprints, repeat=2):
        yield outcome(query, relative, level, registry.compare(fingerprints[query], fingerprints[relative]), known)


def ask_starter(fingerprints: Mapping[str, Fingerprint], models: Sequence[RealModel], registry: Registry) -> Iterator[dict[str, object]]:
    """Each model asked about in the starter registry: which of its models is named first."""
    for model in models:
        answer: QueryAnswer = registry.query(fingerprints[model.id], source=model.id)
        first = answer.relatives[0] if answer.relatives else None
        yield {
            "query": model.id,
            "level": fingerprints[model.id].about.level,
            "relatives": len(answer.relatives),
            "first": first and first.model,
            "relation": first and first.relation,
            "shared": first and first.shared,
            "p_value": first and first.p_value,
            "r": first and {f.family: f.r for c in first.components for f in c.families},
            "says": answer.explanation[0],
        }


def run(weights: Path) -> tuple[list[Outcome], list[dict[str, object]], dict[str, str]]:
    """All comparisons and questions at both levels, and what could not be read, with the refusal."""
    models = read_table().models
    paths = fetch(models, weights)
    packaged = starter.path()
    if packaged is None:
        sys.exit("There is no starter registry. Make it with `python -m benchmarks.starter.build_starter`.")
    found: list[Outcome] = []
    asked: list[dict[str, object]] = []
    unread: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copyfile(packaged, Path(folder) / "registry.db")
        with Registry.open(copy, create=False) as registry:
            for level in LEVELS:
                fingerprints = {}
                for model in models:
                    try:
                        fingerprints[model.id] = _fingerprint(paths[model.id], level)
                    except SourceError as error:
                        unread[model.id] = str(error).replace(str(weights), "WEIGHTS")
                found += outcomes(fingerprints, level, registry)
                asked += ask_starter(fingerprints, [model for model in models if model.id in fingerprints], registry)
    return found, asked, unread


def _fingerprint(path: Path, level: str) -> Fingerprint:
    source = open_source(path)
    try:
        return fingerprint_source(source, level=level)
    finally:
        source.close()


def matrix(found: Sequence[Outcome], level: str) -> dict[str, str]:
    """Query -> one letter a relative, in the order of the queries."""
    rows: dict[str, str] = {}
    for one in (one for one in found if one.level == level):
        rows[one.query] = rows.get(one.query, "") + LETTERS[one.said]
    return rows


def judged(found: Sequence[Outcome], level: str) -> dict[str, float]:
    """Pairs of strangers that were judged, not merely without comparable parts: how many, and shares of their p-values."""
    p = [
        one.p_value
        for one in found
        if one.level == level and one.basis == "strangers" and one.query < one.relative and one.p_value is not None
    ]
    return {"pairs": len(p), **{f"p<={limit}": sum(value <= limit for value in p) / max(len(p), 1) for limit in (0.1, 0.01)}}


def page(found: Sequence[Outcome], asked: Sequence[Mapping[str, object]], unread: Mapping[str, str]) -> str:
    """The results as a short page."""
    models = len({one.query for one in found})
    lines = ["# Real models against each other", "", f"{models} readable files; every ordered pair, itself included.", ""]
    lines += ["| level | truth | pairs | right | found, named otherwise | missed | clear | accused |", "|---|---|---|---|---|---|---|---|"]
    for level in LEVELS:
        kinds = {one.basis for one in found} - {"strangers"}
        groups = {basis: [one for one in found if (one.level, one.basis) == (level, basis)] for basis in (*sorted(kinds), "strangers")}
        hard = [one for one in groups["strangers"] if frozenset((one.query, one.relative)) in HARD_PAIRS]
        for basis, group in {**groups, "hard strangers, among them": hard}.items():
            count = Counter(one.verdict for one in group)
            cells = " | ".join(str(count[verdict]) for verdict in ("right", "found", "missed", "clear", "accused"))
            lines.append(f"| {level} | {basis} | {len(group)} | {cells} |")
    lines += ["", "Strangers that have comparable parts, once each, and how often their p is small:", ""]
    for level in LEVELS:
        told = judged(found, level)
        lines.append(
            f"- {level}: {told['pairs']} pairs, p at or below 0.1 in {told['p<=0.1']:.1%} and at or below 0.01 in {told['p<=0.01']:.1%}"
        )
    lines += ["", "Asked of the starter registry, which of its models comes first:", ""]
    for level in LEVELS:
        first = [one for one in asked if one["level"] == level]
        lines.append(f"- {level}: {sum(one['first'] is not None for one in first)} of {len(first)} have a relative there")
    odd = [one for one in found if one.verdict in ("found", "missed", "accused") and one.query < one.relative]
    lines += [
        "",
        "## Named otherwise, missed or accused",
        "",
        "| level | query | relative | basis | said | verdict |",
        "|---|---|---|---|---|---|",
    ]
    lines += [f"| {one.level} | {one.query} | {one.relative} | {one.basis} | {one.said} | {one.verdict} |" for one in odd]
    lines += ["", "## Not read", ""] + [f"- {model}: {why}" for model, why in sorted(unread.items())]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help="folder that keeps the downloaded weights")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found, asked, unread = run(arguments.weights or Path(temporary))
    content = {
        "told": [to_builtins(one) for one in found if one.told],
        "letters": {letter: name for name, letter in LETTERS.items()},
        "all": {level: matrix(found, level) for level in LEVELS},
        "judged_strangers": {level: judged(found, level) for level in LEVELS},
        "starter": asked,
        "unread": unread,
    }
    write_result("real_models", content)
    write_page("real_models", ".md", page(found, asked, unread))
    print(page(found, asked, unread))
    sys.exit(any(one.verdict == "accused" or (one.verdict == "missed" and one.basis != "measured") for one in found))


if __name__ == "__main__":
    main()
