"""Many pairs of models at once beside one pair after the other: pairs a second, and the same figures.

    python -m benchmarks.speed.pairs [--models 200] [--alone 400] [--claims 200]

Families in fingerprint space (common/sketch_families.py), at both levels: every model against every other, as screening asks; of `--alone`
pairs drawn at random each is held by itself as well, and what both say is compared. `calibrate` on strangers and the claims of all models
are measured the same way: calibration against one pair after the other as it was measured before, claims against `weighed_claims` of each
model. Writes results/pairs.json; exits 1 where an answer differs or less than LEAST times as many pairs a second are reached.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.results import write_result
from benchmarks.common.sketch_families import families, strangers
from modelkin_indexer.results.beside import Claim
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.relations import RELATIONS
from modelkin_registry.batches.calibration import measure_backgrounds
from modelkin_registry.batches.pairs import MATRICES, UNTOLD, Seen, screened
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.registry import Registry
from modelkin_registry.relations.pairs import Kin, hold

LEAST = 10.0  # times as many pairs a second as one after the other
SAME = 1e-6  # of figures
FAMILY, SEED = 20, 23


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds of this process, and what came out."""
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def all_pairs(models: int, alone: int, *, full: bool) -> dict[str, Any]:
    """Every model against every other at once; some of these pairs one after the other."""
    made = [one for _, one in families(models, FAMILY, full=full)]
    pairs, judge = list(permutations(made, 2)), Judge(models, {}, {})
    screened(pairs[:: max(len(pairs) // 20, 1)], judge)  # each fingerprint makes its sketches ready once
    many, seen = timed(lambda: screened(pairs, judge))
    drawn = np.random.default_rng(SEED).choice(len(pairs), min(alone, len(pairs)), replace=False).tolist()
    single, kin = timed(lambda: [hold(*pairs[number], "", judge).kin() for number in drawn])
    different = [number for number, one in zip(drawn, kin, strict=True) if not _same(seen[number], one)]
    rates = len(pairs) / many, len(drawn) / single
    return {
        "models": models,
        "pairs": len(pairs),
        "related": sum(one.shows == MATRICES for one in seen),
        "held_one_by_one": sum(one.shows == UNTOLD for one in seen),
        "pairs_a_second": round(rates[0]),
        "one_after_the_other_a_second": round(rates[1]),
        "times": round(rates[0] / rates[1], 1),
        "compared": len(drawn),
        "different": len(different),
    }


def _same(seen: Seen, kin: Kin) -> bool:
    """Whether both ways say the same of a pair."""
    if seen.shows == UNTOLD:
        return True
    same = seen.shows == RELATIONS[kin.relative.relation].shows and seen.comparable == kin.comparable_parameters
    return same and (seen.shows != MATRICES or abs(seen.closeness - kin.closeness) <= SAME)


def calibration(models: int, *, full: bool) -> dict[str, Any]:
    """Backgrounds of strangers."""
    made = list(strangers(models, full=full))
    measure_backgrounds(made[:3])
    seconds, found = timed(lambda: measure_backgrounds(made))
    pairs = max(one.pairs for one in found)
    single, _ = timed(lambda: _one_by_one(made[:20]))
    rates = pairs / seconds, 190 / single
    told = {"models": models, "pairs": pairs, "pairs_a_second": round(rates[0]), "held_one_after_the_other_a_second": round(rates[1])}
    return told | {"times": round(rates[0] / rates[1], 1)}


def _one_by_one(made: Sequence[tuple[str, Fingerprint]]) -> None:
    for number, (_, one) in enumerate(made):
        for _, other in made[:number]:
            hold(one, other, "", Judge(1, {}, {})).kin()


def claims(models: int) -> dict[str, Any]:
    """Each model of a family claims the base, every fourth that of another family: a liar."""
    with tempfile.TemporaryDirectory() as folder, Registry.open(Path(folder) / "r.db") as registry:
        for number, (name, one) in enumerate(families(models, FAMILY)):
            base = number // FAMILY * FAMILY
            said = (base + FAMILY) % models if number % 4 == 1 else base
            registry.add(name, one, claims=[Claim("base_model", f"m{said:05}", "README.md")] if number != base else [])
        many, found = timed(registry.all_weighed_claims)
        single, alone = timed(lambda: {name: registry.weighed_claims(name) for name in found})
    told = {
        "models": models,
        "claims": len(found),
        "contradicted": sum(one.verdict == "nothing" for said in found.values() for one in said),
    }
    return told | {"cpu_s": round(many, 2), "each_model_cpu_s": round(single, 2), "times": round(single / many, 1), "same": found == alone}


def main() -> int:
    """Run it. 1 where an answer differs, or too few pairs a second are reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--alone", type=int, default=400, help="pairs that are held one after the other")
    parser.add_argument("--claims", type=int, default=200, help="models whose claims are weighed")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found: dict[str, Any] = {
        "probe": all_pairs(given.models, given.alone, full=False),
        "full": all_pairs(given.models, given.alone, full=True),
        "calibrate_probe": calibration(64, full=False),
        "calibrate_full": calibration(64, full=True),
        "claims": claims(given.claims),
    }
    write_result("pairs", found, out=given.out)
    print(json.dumps(found, indent=1))
    levels = [found[level] for level in ("probe", "full")]
    return int(any(one["times"] < LEAST or one["different"] for one in levels) or not found["claims"]["same"])


if __name__ == "__main__":
    sys.exit(main())
