"""What `modelkin audit` finds in models that nobody tampered with, and how near they come to its thresholds.

    python -m benchmarks.hostile.audit SOURCE...

Writes results/audit.json: findings by kind and model, and of each figure that a threshold is for the most extreme one: correlations of
the norms of two matrices' units, sizes of two matrices of a layer against the other layers, numbers near a coarser grid, and how even the
residual stream is.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.common.results import write_result
from modelkin.auditing import contents, coordinates
from modelkin.auditing.examined import Examined, examined
from modelkin.auditing.looks import LOOKS
from modelkin.wishes import SILENT, HowToRead
from modelkin_indexer.errors import ModelkinError
from modelkin_indexer.spec import PUBLIC_KEY

Figure = tuple[str, float]
LEFT_OUT = ("constants", "unread", "unplaced", "oversized")  # parts of nearly every model, which accuse nobody


def figures(it: Examined) -> Iterator[Figure]:
    """What thresholds are held against, the larger the nearer."""
    if it.source is None or it.is_change:
        return
    stacks, units = defaultdict(list), defaultdict(list)
    for pair in it.pairs:
        stacks[pair.words, pair.first.component].append(pair.ratio)
        if pair.r is not None:
            units[pair.words, pair.first.component].append(pair.r)
            yield f"opposite units, {pair.words}", -pair.r
    for (words, _), rs in units.items():
        if len(rs) >= coordinates.FEWEST_LAYERS:
            yield f"opposite units in the middle layer, {words}", -float(np.median(rs))
    for (words, _), ratios in stacks.items():
        if len(ratios) >= coordinates.FEWEST_LAYERS:
            yield f"layers apart, {words}", float(np.abs(np.array(ratios) - np.median(ratios)).max())
    for grid, found in {} if it.source.quantization else contents.crowds(it, it.source).items():
        crowds = [crowd for _, crowd in found]
        if crowds:
            yield f"share of matrices crowded at {grid}", float(np.mean(np.array(crowds) > contents.CROWDED))
            yield f"median crowd at {grid}", float(np.median(crowds))
    for component in {place.component for place in it.matrices.places}:
        if (even := coordinates.evenness(it, component)) is not None:
            yield "evenness of the stream, less is nearer", -even


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="+", type=Path)
    found: dict[str, Counter[str]] = {}
    extremes: dict[str, list[tuple[float, str]]] = defaultdict(list)
    left = {}
    for source in parser.parse_args().sources:
        try:
            with examined(source, HowToRead(PUBLIC_KEY), SILENT) as it:
                results = {code: look(it) for code, look in LOOKS.items()}
                for name, value in figures(it):
                    extremes[name].append((value, source.name))
        except ModelkinError as error:
            left[source.name] = type(error).__name__
            continue
        found[source.name] = Counter({code: len(some) for code, some in results.items() if some and not isinstance(some, str)})
        print(source.name, dict(found[source.name]), file=sys.stderr)
    result = {
        "models": len(found),
        "models with a finding beside parts left out": sum(bool(set(codes) - set(LEFT_OUT)) for codes in found.values()),
        "by kind": {code: sum(code in codes for codes in found.values()) for code in LOOKS},
        "which": {name: dict(codes) for name, codes in found.items() if set(codes) - set(LEFT_OUT)},
        "figures": {name: {"measured": len(some), "most": sorted(some, reverse=True)[:3]} for name, some in sorted(extremes.items())},
        "not read": left,
    }
    write_result("audit", result)


if __name__ == "__main__":
    main()
