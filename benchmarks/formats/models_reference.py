"""Holds the reading of whole quantised models against the same weights unquantised: small models with random weights are quantised and
saved by the libraries themselves, as folders and ONNX graphs are published, and compared at both levels with their original and with a
stranger in the same form.

    pip install torchao mlx mlx-cpu mlx-lm optimum-quanto bitsandbytes accelerate transformers nvidia-modelopt onnxruntime onnxscript
    python -m benchmarks.formats.models_reference [--only LIBRARY_OR_FORM]

Writes benchmarks/results/models_reference.json; exits 1 where a copy is not read as one with all its bytes, or a stranger is called a
relative. What a library does not make on this machine is named.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import modelkin
from benchmarks.common.results import write_result
from benchmarks.formats import graphs_written, models_written

COPIES, STRANGERS = ("quantized", "recast", "identical"), ("unrelated", "not comparable")
LEAST_COVERAGE = 0.999
Made = Callable[[int, Path], None]  # writes a model of a seed into a folder


def folders(library: str, form: str) -> tuple[Made, Made]:
    model, save = models_written.FORMS[library, form]
    return lambda seed, folder: save(model(seed), folder), lambda seed, folder: model(seed).save_pretrained(folder)


def graphs(library: str, form: str) -> tuple[Made, Made]:
    return lambda seed, folder: graphs_written.write(form, seed, folder), lambda seed, folder: graphs_written.original(form, seed, folder)


def outcome(made: Made, original: Made, folder: Path) -> dict[str, Any]:
    """One form: what is said of a model beside its original and a stranger."""
    one, other, before = (folder / name for name in ("one", "other", "before"))
    for path in (one, other, before):
        path.mkdir()
    try:
        made(1, one)
        made(2, other)
    except Exception as error:  # of other people's libraries
        return {"not made": f"{type(error).__name__}: {error}"[:200]}
    original(1, before)
    line: dict[str, Any] = {}
    for level in ("full", "probe"):
        copy, apart = (modelkin.compare(one, path, level=level) for path in (before, other))
        line[level] = {
            "relation": copy.relation,
            "coverage": copy.a.coverage,
            "shared": round(copy.shared, 4),
            "stranger": apart.relation,
        }
    levels = [line["full"], line["probe"]]
    right = all(one["relation"] in COPIES and one["coverage"] >= LEAST_COVERAGE and one["stranger"] in STRANGERS for one in levels)
    return line | {"right": right}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="a part of a library's or form's name; nothing is written then")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    cases = [(key, *folders(*key)) for key in models_written.FORMS] + [(key, *graphs(*key)) for key in graphs_written.FORMS]
    lines = []
    for (library, form), made, original in cases:
        if options.only in f"{library} {form}":
            with tempfile.TemporaryDirectory() as folder:
                lines.append({"library": library, "form": form, **outcome(made, original, Path(folder))})
            print(json.dumps(lines[-1]), flush=True)
    held = [line for line in lines if "right" in line]
    wrong = [f"{line['library']} {line['form']}" for line in held if not line["right"]]
    versions = {library: importlib.metadata.version(library) for library in dict.fromkeys(line["library"] for line in held)}
    if not options.only:
        result = {"forms": len(held), "right": len(held) - len(wrong), "wrong": wrong, "libraries": versions, "rows": lines}
        write_result("models_reference", result, out=options.out)
    print(f"{len(held) - len(wrong)} of {len(held)} right, {len(lines) - len(held)} not made")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
