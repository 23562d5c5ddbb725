"""Run by a peer's own Python: reads pairs of folders, one JSON list a line, and prints what the peer says of each. See peers.py."""

import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path


def modeldna():
    from modeldna.scan import compare_pair

    def judge(a, b):
        *_, verdict = compare_pair(a, b)
        p = verdict.probability
        return {"says": verdict.to_dict()["verdict"], "score": p, "related": p is not None and p >= 0.9}  # its Thresholds.positive

    return judge


def cisco():
    from provenancekit.config.settings import Settings
    from provenancekit.core.scanner import ModelProvenanceScanner
    from provenancekit.services.cache import NullCache

    scanner = ModelProvenanceScanner(settings=Settings(cache_dir=Path(tempfile.mkdtemp())), cache=NullCache())

    def judge(a, b):
        answer = scanner.compare(a, b).model_dump(mode="json")
        scores, weights = answer["scores"], answer["scores"]["identity_score"]
        total, tier = scores["pipeline_score"], scores["mfi_tier"]
        return {
            "says": scores.get("provenance_decision"),
            "score": total,
            "related": (total is not None and total > 0.75) or (tier is not None and tier <= 2),
            "weights_score": weights,
            "weights_related": weights is not None and weights > 0.75,
        }

    return judge


def main():
    with contextlib.redirect_stdout(sys.stderr):
        judge = {"modeldna": modeldna, "cisco": cisco}[sys.argv[1]]()
    for line in sys.stdin:
        a, b = json.loads(line)
        began = time.perf_counter()
        try:
            with contextlib.redirect_stdout(sys.stderr):
                found = judge(a, b)
        except Exception as error:
            found = {"says": "error", "score": None, "related": False, "error": f"{type(error).__name__}: {error}"[:200]}
        print(json.dumps({**found, "seconds": round(time.perf_counter() - began, 4)}), flush=True)


main()
