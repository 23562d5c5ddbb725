"""The aligned test on copies in other coordinates and on strangers of equal shape: `python -m benchmarks.truth.aligned UNIVERSE DERIVED`.

UNIVERSE is a lineage universe (models/), DERIVED holds its untrained derivatives. Results: benchmarks/results/aligned.json.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from benchmarks.common.results import write_result
from modelkin_indexer.aligned.comparison import read_aligned
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.exact.aligned import judge_recovery
from modelkin_registry.explanation.compare import compare_fingerprints

LAUNDERED = {
    "L1": (
        "perm-mlp", "perm-heads", "perm-residual", "perm-all", "rot-residual", "rot-vo", "signflip",
        "combo-perm-rot", "combo-perm-rot-noise", "combo-ftA-perm-noise", "scale-qk", "scale-updown",
    ),
    "G": ("perm-experts",),
}  # fmt: skip
STRANGERS = ("L1", "L2", "G", "S", "P", "Q", "fake", "N", "N2", "B", "B2", "L1-distill")
KIN = ({"B", "B2"}, {"G", "fake"})  # pairs that share something: told apart below


def held_against(a: Path, b: Path) -> dict[str, Any]:
    """Figures of one pair."""
    began = time.perf_counter()
    with closing(open_source(a)) as one, closing(open_source(b)) as other:
        sides = [fingerprint_source(side) for side in (one, other)]
        relation = compare_fingerprints(*sides, a_name="A", b_name="B", controls={}, judge=ALONE)
        maps = {c.query: (c.relative, c.layer_map) for c in relation.components}
        reading = read_aligned(one, other, maps)
    families = judge_recovery(reading)
    return {
        "a": a.name,
        "b": b.name,
        "relation": relation.relation,
        "maps": {name: {"kind": m.kind, "before": m.before, "after": m.after, "shuffled": m.shuffled} for name, m in reading.maps.items()},
        "families": [to_builtins(family) for family in families],
        "findings": sorted({family.finding for family in families}),
        "seconds": round(time.perf_counter() - began, 2),
    }


def main(universe: Path, derived: Path) -> None:
    models = universe / "models"
    copies = [held_against(derived / child, models / parent) for parent, children in LAUNDERED.items() for child in children]
    strangers = [held_against(models / a, models / b) for a, b in itertools.combinations(STRANGERS, 2)]
    judged = [one for one in strangers if any(family["p_value"] is not None for family in one["families"])]
    accused = [f"{one['a']} {one['b']}" for one in judged if {"recovered", "kept"} & set(one["findings"])]
    found = [one for one in copies if {"recovered"} & set(one["findings"])]
    numbers = [f for one in judged for f in one["families"] if f["p_value"] is not None]
    summary = {
        "copies": len(copies),
        "recovered": len(found),
        "not_recovered": [one["a"] for one in copies if one not in found],
        "stranger_pairs_judged": len(judged),
        "stranger_pairs_with_a_finding": accused,
        "strangers_largest_r_after": max(f["after"] for f in numbers),
        "strangers_smallest_p": min(f["p_value"] for f in numbers),
        "strangers_share_of_p_below_0.1": sum(f["p_value"] < 0.1 for f in numbers) / len(numbers),
    }
    write_result("aligned", {"summary": summary, "copies": copies, "strangers": judged})
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
