"""Train small models of equal shape apart from each other: other seeds, other texts. None descends from another.

    python -m benchmarks.truth.train_strangers OUT --text '/usr/lib/python3*/**/*.py' --text '/usr/share/doc/**/copyright' \
        --text '/usr/include/**/*.h'

Needs transformers. OUT/models gets one folder a model, for `unrelated_pairs.py --strangers OUT/models`. All share one tokenizer and the
widths, so that every two of one architecture can be held against each other place by place, token rows included.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.common.universe_training import Sizes, Universe
from benchmarks.truth.fresh_universe import glm, llama

SIZES = Sizes(hidden=96, heads=6, keys=2, neurons=288, layers=4, vocabulary=1200)
FIRST_SEED = 7000
RATE = 2e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--text", action="append", required=True, metavar="GLOB", help="three of them")
    parser.add_argument("--llamas", type=int, default=18)
    parser.add_argument("--mixtures", type=int, default=8)
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    torch.set_num_threads(1)
    universe = Universe(args.out, SIZES, args.steps, args.text)
    texts = [half for halves in universe.rows for half in halves]
    for kind, config, count in (("llama", llama(SIZES), args.llamas), ("mixture", glm(SIZES), args.mixtures)):
        for number in range(count):
            rows = texts[number % len(texts)]
            start = universe.fresh(config, FIRST_SEED + 100 * len(kind) + number)
            universe.make(f"{kind}-{number:02}", start, rows, args.steps, RATE)


if __name__ == "__main__":
    main()
