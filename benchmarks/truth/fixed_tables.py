"""Are tables that a formula gives known for what they are, and no trained weights taken for one? `python -m benchmarks.truth.fixed_tables`.

    python -m benchmarks.truth.fixed_tables [--trained FOLDER]... [--share 0.1] [--pairs 2000]

Every kind of benchmarks/common/table_kinds*.py in every disguise is stored among weights, under names of layers (`.weight`), and read at
both levels: the share told. For each folder of models (FOLDER/*/), every tensor that is taken for a table by what it holds, and the same of
an even `share` of its matrices in the forms that weights take (rounded, pruned, ternary, of low rank): these are to be looked through, one
by one; known tables of those models are listed in KNOWN. And so many `pairs` of unrelated models that share tables are held against each
other (shared_tables.py). Results: benchmarks/results/fixed_tables.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

import benchmarks.common.table_kinds_more  # noqa: F401 (its kinds join the others)
from benchmarks.common.results import write_result
from benchmarks.common.table_kinds import MAKERS, Table
from benchmarks.common.weight_forms import FORMS
from benchmarks.truth import shared_tables
from modelkin_indexer.anatomy.constants.fixed_tables import table_reason
from modelkin_indexer.anatomy.constants.table_reading import whole_tensor
from modelkin_indexer.errors import ModelkinError
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.spec import LEVELS

Singles = npt.NDArray[np.float32]
LARGEST = 1 << 20  # numbers of a trained tensor that is looked at
FLOATS = ("F64", "F32", "F16", "BF16")
# Parts of names of tensors in published models that are tables in truth.
KNOWN = (
    "basis",
    "stft",
    "mel",
    "embed_positions",
    "attn.bias",
    "conv.0.weight",
    "conv.1.weight",
    "conv.2.weight",
    "cq_t2010v2",
    "convolution",
    "Const_3",
)


def disguises() -> dict[str, Callable[[Table], Table]]:
    """What stores do to a table."""
    return {
        "as it is": lambda t: t,
        "half precision": lambda t: np.clip(t, -65504, 65504).astype(np.float16),
        "scaled": lambda t: 0.37 * t,
        "turned": lambda t: np.moveaxis(t, -1, 0) if t.ndim != 4 else np.moveaxis(t, (2, 3), (0, 1)),
        "an axis more": lambda t: t[None] if t.ndim < 4 else t,
        "flattened": lambda t: t.reshape(-1),
    }


def stored(tables: list[Table], folder: Path) -> list[str]:
    """One file with these tables in layers of a model, their names."""
    rng = np.random.default_rng(0)
    names = [f"model.layers.{number}.mlp.up_proj.weight" for number in range(len(tables))]
    held = {name: np.ascontiguousarray(t if t.dtype == np.float16 else t.astype(np.float32)) for name, t in zip(names, tables, strict=True)}
    held["model.layers.0.mlp.gate_proj.weight"] = rng.standard_normal((64, 48)).astype(np.float32)
    save_file(held, folder / "model.safetensors")
    return names


def told(kind: str) -> dict[str, dict[str, float]]:
    """The share of a kind's tables that is told, by level and disguise."""
    shares: dict[str, dict[str, float]] = defaultdict(dict)
    for disguise, form in disguises().items():
        tables = [form(np.asarray(table)) for table in MAKERS[kind]()]
        with tempfile.TemporaryDirectory() as folder:
            names = stored(tables, Path(folder))
            for level in LEVELS:
                found = fingerprint_source(open_source(Path(folder)), level=level)
                constants = found.about.constants or {}
                untouched = {place.layer for place, same in zip(found.vectors.places, found.vectors.constant, strict=True) if same}
                right = [name in constants or number in untouched or np.ptp(tables[number]) == 0 for number, name in enumerate(names)]
                shares[level][disguise] = round(sum(right) / len(right), 4)
    return dict(shares)


def trained(folder: Path) -> Iterator[tuple[str, Singles]]:
    """Tensors of one model that are not too large, as they are stored."""
    source = open_source(folder)
    try:
        for name, info in source.tensors.items():
            if info.dtype in FLOATS and 8 <= info.elements <= LARGEST:
                yield name, whole_tensor(source, info)
    finally:
        source.close()


def taken(folder: Path, share: float) -> tuple[Counter[str], list[dict[str, Any]]]:
    """How many tensors of a model were looked at in each form, and those that were taken for tables."""
    looked, wrong = Counter[str](), []
    rng = np.random.default_rng(0)
    for name, values in trained(folder):
        looked["as trained"] += 1
        if np.ptp(values) == 0:
            continue
        reason = table_reason(values)
        if reason and not any(word in name for word in KNOWN):
            wrong.append({"model": folder.name, "tensor": name, "shape": list(values.shape), "form": "as trained", "reason": reason})
        if reason or values.ndim < 2 or min(values.shape[0], values[0].size) < 2 or rng.random() >= share:
            continue
        for form, make in FORMS.items():
            looked[form] += 1
            if reason := table_reason(make(values)):
                wrong.append({"model": folder.name, "tensor": name, "shape": list(values.shape), "form": form, "reason": reason})
    return looked, wrong


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trained", type=Path, action="append", default=[])
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--pairs", type=int, default=2000)
    given = parser.parse_args()
    kinds = {kind: told(kind) for kind in MAKERS}
    looked, wrong = Counter[str](), []
    for folder in (model for root in given.trained for model in sorted(root.iterdir())):
        try:
            more, found = taken(folder, given.share)
        except ModelkinError as error:
            print(f"not read: {error}")
            continue
        looked += more
        wrong += found
    means = {level: round(float(np.mean([share for kind in kinds.values() for share in kind[level].values()])), 4) for level in LEVELS}
    result = {"told": means, "kinds": kinds, "trained": dict(looked), "taken for tables": wrong}
    print(json.dumps({"told": means, "trained": dict(looked), "taken for tables": wrong}, indent=1), flush=True)
    result["unrelated models that share tables"] = shared = shared_tables.measure(given.pairs)
    write_result("fixed_tables", result, packages=["torch"])
    print(json.dumps({what: shared[what] for what in ("pairs", "descent", "relations")}, indent=1))


if __name__ == "__main__":
    main()
