"""Reads folders laid out as repositories on the Hub are: shards, subfolders, several quantisations, originals beside conversions, stale
indices, what training leaves. Each has to be read as the model that it is, or refused with what to do.

    python -m benchmarks.formats.layouts [--only PART_OF_A_NAME]

Writes benchmarks/results/layouts.json: for each layout what was read or said. Exits 1 if one is not as it should be.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.results import write_result
from benchmarks.formats.layouts_made import LAYOUTS, Layout
from modelkin_indexer.errors import SourceError
from modelkin_indexer.opening import open_source
from modelkin_indexer.sources.stored import values

LEAST_R = 0.99  # of a tensor beside the one that was written: Q8_0 and float16 round


def looked_at(layout: Layout, folder: Path) -> dict[str, Any]:
    """What became of one layout."""
    truth = layout.make(folder)
    row: dict[str, Any] = {"layout": layout.name}
    try:
        with closing(open_source(folder, layout.file)) as source:
            row |= {"read": len(source.tensors), "notes": [note.replace(str(folder), "FOLDER") for note in source.notes]}
            problems = list(differences(source, truth)) if layout.refused is None else ["read, and should be refused"]
    except SourceError as error:
        said = str(error).replace(str(folder), "FOLDER")
        row["refused"] = said
        told = layout.refused is not None and all(word in said for word in layout.refused)
        problems = [] if told else [f"refused: {said}"]
    notes = " ".join(row.get("notes", ()))
    problems += [f"no note of {word!r}" for word in layout.noted if word not in notes]
    return {**row, "right": not problems, **({"problems": problems} if problems else {})}


def differences(source: Any, truth: dict[str, Any]) -> Any:
    """What of the tensors is not as it was written."""
    shown = set(source.tensors)
    if shown != set(truth):
        yield f"tensors {sorted(shown ^ set(truth))[:4]}"
    for name in shown & set(truth):
        info = source.tensors[name]
        array = values.decode(info.dtype, source.read(name, 0, info.nbytes))
        array = np.asarray(array.reshape(info.shape[::-1]).T if info.transposed else array.reshape(info.shape), np.float32)
        if array.shape != truth[name].shape:
            yield f"{name} has shape {array.shape}"
        elif not np.array_equal(array, truth[name]) and np.corrcoef(array.ravel(), truth[name].ravel())[0, 1] < LEAST_R:
            yield f"{name} holds other numbers"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for layout in LAYOUTS:
        if options.only in layout.name:
            with tempfile.TemporaryDirectory() as made:
                folder = Path(made) / "model"
                folder.mkdir()
                rows.append(looked_at(layout, folder))
            if not rows[-1]["right"]:
                print(json.dumps(rows[-1]), flush=True)
    right = sum(row["right"] for row in rows)
    write_result("layouts", {"layouts": len(rows), "right": right, "rows": rows}, out=options.out)
    print(f"{right} of {len(rows)} right")
    return 0 if right == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
