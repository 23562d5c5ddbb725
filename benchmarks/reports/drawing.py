"""What a heat map costs: the report's own SVG beside the same cells drawn by matplotlib, in processor seconds, bytes and imports.

    python -m benchmarks.reports.drawing [--layers 32] [--repeat 20]

Needs `pip install matplotlib`, the plotting library that most readers of a report know. Two decoders of so many layers are compared; their
component is drawn by `reporting/pictures.py`, and its families, layers and figures by matplotlib, into an SVG whose letters stay letters.
Both have every figure in digits; counted beside are the cells that say what they are to a screen reader (a `title`). Imports are timed in
processes of their own. Writes results/drawing.json.
"""

from __future__ import annotations

import argparse
import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

import modelkin
from benchmarks.common.results import ROOT, write_result
from benchmarks.house.rooms import PARTS
from modelkin.reporting.pictures import heat_map
from modelkin.reporting.texts import texts_of
from modelkin_registry.answers.evidence import ComponentEvidence

WIDTH = 64
IMPORTS = {"ours": "import modelkin.reporting.pictures", "matplotlib": "from matplotlib.figure import Figure"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        a, b = (decoder(Path(folder) / name, change, given.layers) for name, change in (("a", 0.0), ("b", 0.3)))
        component = modelkin.compare(a, b, registry=Path(folder) / "none.db").components[0]
    drawn: dict[str, Callable[[], str]] = {
        "ours": lambda: heat_map(component, given.layers, ("a", "b"), texts_of("en")),
        "matplotlib": lambda: by_matplotlib(component, given.layers),
    }
    found: dict[str, Any] = {"layers": given.layers, "families": len(component.families)}
    found |= {name: {**measured(draw, given.repeat), "import_seconds": imported(IMPORTS[name])} for name, draw in drawn.items()}
    found["times_less_a_picture"] = round(found["matplotlib"]["seconds"] / found["ours"]["seconds"], 1)
    write_result("drawing", found, out=given.out, packages=["matplotlib"])


def decoder(folder: Path, change: float, layers: int) -> Path:
    """A decoder of random weights, or one that differs from it by so much noise."""
    random, moved = np.random.default_rng(1), np.random.default_rng(2)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (300, WIDTH)}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        shapes |= {f"{at}{norm}.weight": (WIDTH,) for norm in ("input_layernorm", "post_attention_layernorm")}
        shapes |= {f"{at}self_attn.{role}_proj.weight": (WIDTH, WIDTH) for role in "qkvo"}
        shapes |= {f"{at}mlp.{role}_proj.weight": (2 * WIDTH, WIDTH) for role in ("gate", "up")}
    folder.mkdir()
    tensors = {name: random.standard_normal(shape) + change * moved.standard_normal(shape) for name, shape in shapes.items()}
    save_file({name: value.astype(np.float32) for name, value in tensors.items()}, folder / "model.safetensors")
    return folder


def by_matplotlib(component: ComponentEvidence, layers: int) -> str:
    """The cells as matplotlib draws them, each with its figure."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    families = [family for family in component.families if family.layers]
    cells = np.full((len(families), layers), np.nan)
    for row, family in enumerate(families):
        for layer, _, r in family.layers:
            cells[row, layer] = r
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "modelkin"}):
        figure = Figure(figsize=(0.4 * layers, 0.4 * len(families) + 0.6))
        axes = figure.subplots()
        axes.pcolormesh(cells, vmin=-0.4, vmax=1.0, cmap="Blues", edgecolors="white")
        axes.set_yticks(np.arange(len(families)) + 0.5, [family.family for family in families])
        axes.set_xticks(np.arange(layers) + 0.5, [str(layer) for layer in range(layers)])
        for (row, layer), r in np.ndenumerate(cells):
            axes.text(layer + 0.5, row + 0.5, f"{r:.2f}", ha="center", va="center", size=8)
        target = io.StringIO()
        figure.savefig(target, format="svg")
    return target.getvalue()


def measured(draw: Callable[[], str], repeat: int) -> dict[str, Any]:
    """Median processor seconds of a picture once imports are done, its bytes, and how many of its parts have a title."""
    text, seconds = draw(), []
    for _ in range(repeat):
        began = time.process_time()
        draw()
        seconds.append(time.process_time() - began)
    return {"seconds": round(statistics.median(seconds), 4), "bytes": len(text.encode()), "titled_parts": max(text.count("<title>") - 1, 0)}


def imported(statement: str) -> float:
    """Processor seconds of a fresh Python that imports this, less one that imports nothing; the least of five."""
    paths = [str(ROOT / part) for part in PARTS]
    code = f"import sys, time; sys.path[:0] = {paths!r}; began = time.process_time(); {{}}; print(time.process_time() - began)"
    runs = [subprocess.run([sys.executable, "-c", code.format(statement)], capture_output=True, text=True, check=True) for _ in range(5)]
    return round(min(float(run.stdout) for run in runs), 3)


if __name__ == "__main__":
    main()
