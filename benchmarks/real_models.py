"""Real models held against each other: known relatives must be found, strangers never accused.

    python benchmarks/real_models.py [--weights FOLDER]

Downloads 188 MB unless --weights keeps them from another time. Writes benchmarks/results/real_models.json; exits 1 if a relative is
missed or a stranger accused. "Not comparable" is neither: it is what this version must say of weights that it cannot read.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations_with_replacement, permutations
from pathlib import Path

from modelkin_data import starter
from modelkin_indexer.fingerprint import Fingerprint
from modelkin_indexer.indexing import fingerprint_source
from modelkin_indexer.sources import open_source
from modelkin_registry.answers import CompareAnswer, QueryAnswer
from modelkin_registry.registry import Registry
from modelkin_registry.relations import DESCENT_FREE
from real_weights import RealModel, fetch, read_table

RESULTS = Path(__file__).parent / "results" / "real_models.json"
LEVELS = ("full", "probe")
UNREADABLE = "not comparable"
# Parent, child: relation and on what that rests. All other pairs of different models are strangers.
RELATED = {
    ("minilm-l6-gt", "minilm-l6-sre-ft"): ("fine-tuned", "documented"),
    ("fracast", "fracast-int8"): ("quantized", "file name"),
}
# Distilled from fresh weights: trained on the other's outputs, on the same fixed Fourier basis.
DISTILLED = ("akiki-st", "silero-v6.2.3-st")


@dataclass(frozen=True)
class Outcome:
    """One pair: what is true, what was said, and whether that is "right", "found", "missed", "clear", "accused" or "not comparable"."""

    query: str
    relative: str
    level: str
    truth: str
    basis: str
    said: str
    also: tuple[str, ...]
    shared: float
    p_value: float | None
    r: Mapping[str, float | None]
    verdict: str


def outcome(query: str, relative: str, level: str, answer: CompareAnswer) -> Outcome:
    """What became of one comparison."""
    truth, basis = _truth(query, relative)
    r = {f"{c.query}/{f.family}": None if f.r is None else round(f.r, 4) for c in answer.components for f in c.families}
    verdict = _verdict(truth, answer.relation)
    return Outcome(query, relative, level, truth, basis, answer.relation, answer.also, answer.shared, answer.p_value, r, verdict)


def _truth(query: str, relative: str) -> tuple[str, str]:
    if query == relative:
        return "identical", "same file"
    known = RELATED.get((relative, query)) or RELATED.get((query, relative))
    if known is not None:
        return known
    return ("unrelated", "documented: distilled") if {query, relative} == set(DISTILLED) else ("unrelated", "other architecture")


def _verdict(truth: str, said: str) -> str:
    if truth == "unrelated":
        return "clear" if said in DESCENT_FREE else "accused"
    if said == truth:
        return "right"
    if said == UNREADABLE:
        return said
    return "missed" if said in DESCENT_FREE else "found"


def outcomes(fingerprints: Mapping[str, Fingerprint], level: str, registry: Registry) -> Iterator[Outcome]:
    """Every model against every model, itself included, both ways round."""
    for a, b in combinations_with_replacement(fingerprints, 2):
        for query, relative in sorted(set(permutations((a, b)))):
            yield outcome(query, relative, level, registry.compare(fingerprints[query], fingerprints[relative]))


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


def run(weights: Path) -> tuple[list[Outcome], list[dict[str, object]]]:
    """All comparisons and questions at both levels."""
    models = read_table().models
    paths = fetch(models, weights)
    packaged = starter.path()
    if packaged is None:
        sys.exit("There is no starter registry. Make it with `python benchmarks/build_starter.py`.")
    found: list[Outcome] = []
    asked: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copyfile(packaged, Path(folder) / "registry.db")
        with Registry.open(copy, create=False) as registry:
            for level in LEVELS:
                fingerprints = {model.id: _fingerprint(paths[model.id], level) for model in models}
                found += outcomes(fingerprints, level, registry)
                asked += ask_starter(fingerprints, models, registry)
    return found, asked


def _fingerprint(path: Path, level: str) -> Fingerprint:
    source = open_source(path)
    try:
        return fingerprint_source(source, level=level)
    finally:
        source.close()


def print_table(found: Sequence[Outcome]) -> None:
    """One line a pair, those across architectures left to the summary."""
    for one in found:
        if one.truth != "unrelated" or one.verdict == "accused" or {one.query, one.relative} == set(DISTILLED):
            r = "  ".join(f"{family} {value}" for family, value in one.r.items())
            print(f"{one.level:5} {one.query:17} {one.relative:17} {one.truth:10} said {one.said:15} {one.verdict:14} {r}")
    verdicts = [one.verdict for one in found]
    print(", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help="folder that keeps the downloaded weights")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found, asked = run(arguments.weights or Path(temporary))
    print_table(found)
    RESULTS.parent.mkdir(exist_ok=True)
    content = {"pairs": [asdict(one) for one in found], "starter": asked}
    RESULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    sys.exit(any(one.verdict in ("missed", "accused") for one in found))


if __name__ == "__main__":
    main()
