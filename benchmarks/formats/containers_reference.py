"""Holds the reading of each container against a file that the library itself wrote: a small model with random weights, saved by the
library, read at both levels beside the same weights in plain safetensors, which are taken out of the library's own arrays.

    pip install keras "jax[cpu]" openvino nncf flax coremltools orbax-checkpoint zstandard tensorflow-cpu paddlepaddle \
        ai-edge-quantizer litert-lm-builder executorch spacy
    python -m benchmarks.formats.containers_reference [--only CONTAINER] [--into RESULTS]

Writes benchmarks/results/containers_reference.json: for each form the coverage, the relation and the least r of a family, of the file
beside its twin and beside a stranger in the same form. Exits 1 where a copy is not read as one, or a stranger is called a relative.
Cases whose library is not installed are left out and named.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import closing
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

import modelkin
from benchmarks.common.results import write_result
from benchmarks.formats.containers_written import CASES, Written
from modelkin_indexer.opening import open_source
from modelkin_indexer.sources.stored import values

COPIES = ("identical", "recast", "quantized")
STRANGERS = ("unrelated", "not comparable", "norms only")
LEAST_COVERAGE, LEAST_R = 0.999, 0.999
LEAST_R_OF_BITS = {8: 0.999, 4: 0.985}  # what the library's own rounding of these random weights leaves
PACKAGES = (
    *(
        "keras",
        "openvino",
        "flax",
        "coremltools",
        "paddlepaddle",
        "torch",
        "tensorflow-cpu",
        "orbax-checkpoint",
        "tensorstore",
        "zstandard",
    ),
    *("ai-edge-quantizer", "litert-lm-builder", "executorch", "spacy"),
)


def twin(written: Written, folder: Path) -> Path:
    """The same weights in safetensors."""
    folder.mkdir()
    save_file({name: np.ascontiguousarray(array) for name, array in written.truth.items()}, folder / "model.safetensors")
    return folder


def difference(path: Path, truth: dict[str, Any]) -> dict[str, Any]:
    """How many of the truth's numbers the file has, matrix by matrix, found by what they hold; and the least correlation of those."""
    left = {name: np.asarray(array, np.float32) for name, array in truth.items()}
    least, found = 1.0, 0
    with closing(open_source(path)) as source:
        for name, info in source.tensors.items():
            array = values.decode(info.dtype, source.read(name, 0, info.nbytes)).reshape(
                info.shape[::-1] if info.transposed else info.shape
            )
            array = np.asarray(array.T if info.transposed else array, np.float32)
            r, other = max(((_r(array, one), key) for key, one in left.items() if one.size == array.size), default=(0.0, ""))
            if other and r > 0.9:
                least, found = min(least, r), found + left.pop(other).size
    total = sum(np.asarray(array).size for array in truth.values())
    return {"numbers found": round(found / total, 4), "least r of a tensor": round(float(least), 5), "not found": sorted(left)[:5]}


def _r(one: Any, two: Any) -> float:
    """Correlation in one order; equal constants correlate."""
    if np.array_equal(one.ravel(), two.ravel()):
        return 1.0
    if one.std() == 0 or two.std() == 0:
        return 0.0
    return float(np.corrcoef(one.ravel(), two.ravel())[0, 1])


def asked(name: str) -> dict[str, Any]:
    """One form, held against its twin and a stranger."""
    row: dict[str, Any] = {"form": name}
    case = CASES[name]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for part in ("one", "two"):
            (folder / part).mkdir()
        ours, stranger = case.write(folder / "one", 1), case.write(folder / "two", 2)
        row |= difference(ours.path, ours.truth)
        original = twin(ours, folder / "twin")
        for level in ("full", "probe"):
            copy = modelkin.compare(ours.path, original, level=level)
            apart = modelkin.compare(stranger.path, original, level=level)
            row[level] = {
                "coverage": copy.a.coverage,
                "relation": copy.relation,
                "shared": round(copy.shared, 4),
                "stranger": apart.relation,
            }
    row["right"] = _is_right(row, case.bits)
    return row


def _is_right(row: dict[str, Any], bits: int) -> bool:
    least = LEAST_R_OF_BITS.get(bits, LEAST_R)
    levels = [row["full"], row["probe"]]
    same = row["numbers found"] >= LEAST_COVERAGE and row["least r of a tensor"] >= least
    copies = all(level["relation"] in COPIES and level["coverage"] >= LEAST_COVERAGE for level in levels)
    return same and copies and all(level["stranger"] in STRANGERS for level in levels)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="a part of a form's name")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--into", type=Path, help="results whose other forms are kept: not all libraries go into one environment")
    options = parser.parse_args()
    rows, lacking = [], []
    for name, case in CASES.items():
        if options.only and not any(part in name for part in options.only):
            continue
        try:
            for module in case.modules:
                import_module(module)
        except ImportError:
            lacking.append(name)
            continue
        rows.append(asked(name))
        print(json.dumps(rows[-1]), flush=True)
    packages = [one for one in PACKAGES if _is_installed(one)]
    for row in rows:
        row["with"] = {name: version(name) for name in packages}
    if options.into is not None and options.into.exists():
        kept = [
            row
            for row in json.loads(options.into.read_text())["rows"]
            if row["form"] in CASES and row["form"] not in {r["form"] for r in rows}
        ]
        rows = sorted([*kept, *rows], key=lambda row: list(CASES).index(row["form"]))
        lacking = [name for name in lacking if name not in {row["form"] for row in rows}]
    write_result("containers_reference", {"rows": rows, "left out": lacking}, out=options.out, packages=packages)
    return 0 if all(row["right"] for row in rows) else 1


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
