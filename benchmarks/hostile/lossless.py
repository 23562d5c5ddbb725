"""Copies that compute what a registered model does, under stored numbers of other coordinates, shapes or names: are they found?

    python -m benchmarks.hostile.lossless BENCH_DIR [--universe dev] [--only rotated]

Forty combinations of lossless transforms (transforms.py) on small trained models, each asked of a registry that holds the original and
unrelated ones, at both levels, and again under random names without a config. A copy is found, or the verdict is `not examined` with the
reason: "nothing found" would be said of what was not looked at. No model but those of the original's lineage may be called a relative.
Writes results/lossless.json; exits 1 if a verdict is neither.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
from safetensors.numpy import save_file

import modelkin
from benchmarks.common.results import write_result
from benchmarks.hostile import transforms as t
from modelkin_indexer.spec import LEVELS
from modelkin_registry.answers.asked import QueryAnswer
from modelkin_registry.answers.parts import NOT_EXAMINED, RELATED
from modelkin_registry.answers.relations import is_descent

LETTERS = 12  # of a random name
WITHOUT_NAMES = ", without names"
ASKED = (*LEVELS, *(level + WITHOUT_NAMES for level in LEVELS))
LINEAGES = {"L1": {"L1", "L1b"}, "L2": {"L2", "VL"}, "Q": {"Q"}}  # an original, and what is of its lineage or start
STRANGERS = ("N", "N2", "X", "B", "G", "P", "M", "V", "W", "S")
COMBINATIONS: tuple[tuple[str, str, tuple[t.Transform, ...]], ...] = (
    ("L1", "folded", (t.folded,)),
    ("L2", "rotated", (t.rotated,)),
    ("L1", "channels permuted", (t.channels_permuted,)),
    ("Q", "signs flipped", (t.signs_flipped,)),
    ("L1", "vocabulary moved", (t.vocabulary_moved,)),
    ("L2", "vocabulary moved, no tokenizer", (t.vocabulary_moved, t.without_tokenizer)),
    ("L1", "neurons permuted", (t.neurons_permuted,)),
    ("Q", "heads permuted", (t.heads_permuted,)),
    ("L1", "keys rescaled", (t.keys_rescaled,)),
    ("L2", "values turned", (t.values_turned,)),
    ("L1", "units rescaled", (t.units_rescaled,)),
    ("L1", "products", (t.as_products,)),
    ("Q", "uneven products", (t.as_uneven_products,)),
    ("L1", "rows split", (t.rows_split,)),
    ("L2", "columns split", (t.columns_split,)),
    ("L1", "padded", (t.padded,)),
    ("L2", "units padded", (t.units_padded,)),
    ("Q", "null units", (t.null_units,)),
    ("L1", "folded, vocabulary moved", (t.folded, t.vocabulary_moved)),
    ("L1", "rotated, vocabulary moved", (t.rotated, t.vocabulary_moved)),
    ("L2", "rotated, vocabulary moved, no tokenizer", (t.rotated, t.vocabulary_moved, t.without_tokenizer)),
    ("Q", "rotated, neurons and heads permuted", (t.rotated, t.neurons_permuted, t.heads_permuted)),
    ("L1", "all permuted", (t.channels_permuted, t.vocabulary_moved, t.neurons_permuted, t.heads_permuted)),
    (
        "L2",
        "all permuted, no tokenizer",
        (t.channels_permuted, t.vocabulary_moved, t.neurons_permuted, t.heads_permuted, t.without_tokenizer),
    ),
    ("L1", "rotated, keys and units rescaled", (t.rotated, t.keys_rescaled, t.units_rescaled)),
    ("L2", "all turned", (t.rotated, t.keys_rescaled, t.units_rescaled, t.values_turned, t.neurons_permuted, t.heads_permuted)),
    ("L1", "all turned, vocabulary moved", (t.rotated, t.keys_rescaled, t.values_turned, t.neurons_permuted, t.vocabulary_moved)),
    (
        "Q",
        "all turned, vocabulary moved, no tokenizer",
        (t.rotated, t.values_turned, t.neurons_permuted, t.vocabulary_moved, t.without_tokenizer),
    ),
    ("L1", "rotated, products", (t.rotated, t.as_products)),
    ("L2", "channels permuted, products", (t.channels_permuted, t.as_products)),
    ("L1", "rotated, vocabulary moved, products", (t.rotated, t.vocabulary_moved, t.as_products)),
    ("L1", "neurons permuted, rows split", (t.neurons_permuted, t.rows_split)),
    ("L2", "rotated, columns split", (t.rotated, t.columns_split)),
    ("Q", "rotated, vocabulary moved, rows split", (t.rotated, t.vocabulary_moved, t.rows_split)),
    ("L1", "padded, rotated", (t.padded, t.rotated)),
    ("L2", "padded, channels permuted", (t.padded, t.channels_permuted)),
    ("L1", "null units, neurons permuted", (t.null_units, t.neurons_permuted)),
    ("Q", "padded, null units", (t.padded, t.null_units)),
    ("L2", "null units, rotated, vocabulary moved", (t.null_units, t.rotated, t.vocabulary_moved)),
    ("L1", "padded, null units, all permuted", (t.padded, t.null_units, t.channels_permuted, t.neurons_permuted, t.vocabulary_moved)),
)


def saved(net: t.Net, like: Path, folder: Path) -> Path:
    folder.mkdir()
    save_file({name: np.ascontiguousarray(values, np.float32) for name, values in net.tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**net.config, "dtype": "float32"}))
    if net.tokens is not None:
        written = json.loads((like / "tokenizer.json").read_text())
        number = {token: place for place, token in enumerate(net.tokens) if token}
        written["model"]["vocab"] = number
        for added in written["added_tokens"]:
            added["id"] = number[added["content"]]
        (folder / "tokenizer.json").write_text(json.dumps(written))
    return folder


def saved_without_names(net: t.Net, path: Path, random: np.random.Generator) -> Path:
    """The tensors alone, each under random letters, in another order."""
    names = list(net.tensors)
    random.shuffle(names)
    letters = ("".join(random.choice(list(ascii_lowercase), LETTERS)) for _ in names)
    save_file({new: np.ascontiguousarray(net.tensors[name], np.float32) for new, name in zip(letters, names, strict=True)}, path)
    return path


def judged(original: str, answer: QueryAnswer) -> dict[str, Any]:
    """What was said: found, not examined or nothing found; and who was called a relative wrongly."""
    related = [one for one in answer.relatives if is_descent(one)]
    kin = [one for one in related if one.model in LINEAGES[original]]
    outcome = "found" if kin and related[0].model == original else "not examined" if answer.verdict == NOT_EXAMINED else "nothing found"
    return {
        "outcome": outcome if outcome != "nothing found" or answer.verdict != RELATED else "found another",
        "relation": kin[0].relation if kin else None,
        "accused": [one.model for one in related if one.model not in LINEAGES[original]],
        "compared": max((one.compared for one in answer.relatives), default=0.0),
        "said": answer.explanation[0],
    }


def measure(universe: Path, work: Path, only: Sequence[str] = ()) -> dict[str, Any]:
    rows = []
    for level in LEVELS:
        with modelkin.open(work / f"{level}.db", create=True, starter=False) as registry:
            registry.add(*(universe / "models" / name for name in (*LINEAGES, *STRANGERS)), level=level)
    for number, (original, name, steps) in enumerate(COMBINATIONS):
        if only and not any(wanted in name for wanted in only):
            continue
        source, random = universe / "models" / original, np.random.default_rng(number)
        net = t.loaded(source)
        for step in steps:
            net = step(net, random)
        folder = saved(net, source, work / f"{original}-{number}")
        row: dict[str, Any] = {"original": original, "transforms": name}
        nameless = saved_without_names(net, work / f"{original}-{number}.safetensors", random)
        for level in LEVELS:
            with modelkin.open(work / f"{level}.db", starter=False) as registry:
                row[level] = judged(original, registry.query(folder, level=level))
                row[level + WITHOUT_NAMES] = judged(original, registry.query(nameless, level=level))
        rows.append(row)
        print(original, name, *(f"{asked}: {row[asked]['outcome']} ({row[asked]['relation']})" for asked in ASKED), sep=" | ", flush=True)
    counts = {
        asked: {
            said: sum(row[asked]["outcome"] == said for row in rows) for said in ("found", "not examined", "nothing found", "found another")
        }
        for asked in ASKED
    }
    return {
        "combinations": len(rows),
        "counts": counts,
        "accused": sum(bool(row[asked]["accused"]) for row in rows for asked in ASKED),
        "rows": rows,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path)
    parser.add_argument("--universe", default="dev")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        found = measure(args.bench / args.universe, Path(work), args.only)
    write_result("lossless", found, out=args.out)
    print(found["counts"])
    return int(
        bool(found["accused"]) or any(said[wrong] for said in found["counts"].values() for wrong in ("nothing found", "found another"))
    )


if __name__ == "__main__":
    sys.exit(main())
