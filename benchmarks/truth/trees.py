"""Family trees against known descent: `python -m benchmarks.truth.trees UNIVERSE`. Results: benchmarks/results/trees.json.

All models of a lineage universe are registered under names that tell nothing, without their folders' claims; the forest's edges are held
against truth.json. "Kin" are models that the truth joins by any chain of descent. DOT and SVG are parsed.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import networkx as nx
from click.testing import CliRunner

from benchmarks.common.results import write_result
from modelkin_cli.main import cli
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_registry.registry import Registry

KIN = ("derived", "partial")


def main(universe: Path) -> None:
    truth = json.loads((universe / "truth.json").read_text())
    names = sorted(p.name for p in (universe / "models").iterdir() if (p / "model.safetensors").exists())  # no adapters, no packed forms
    plain = {name: f"m{number:02}" for number, name in enumerate(names)}
    real = {short: name for name, short in plain.items()}
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        registry, left = Registry.open(Path("r.db")), []
        for name, short in plain.items():
            try:
                with contextlib.closing(open_source(universe / "models" / name)) as source:
                    registry.add(short, fingerprint_source(source))
            except Exception as error:  # an adapter alone or a packed form that is no model by itself
                left.append(f"{name}: {type(error).__name__}")
        answer = registry.tree()
        registry.close()
        run = lambda *a: CliRunner().invoke(cli, ["--registry", "r.db", "tree", *a], catch_exceptions=False)  # noqa: E731
        dot, _ = run("--dot").stdout, run("--svg", "t.svg")
        svg = ElementTree.parse("t.svg").getroot()
    pairs: dict[tuple[str, str], Any] = {(p["parent"], p["child"]): p for p in truth["pairs"]}
    edges = [(real[e.parent], real[e.child], e.kind, e.direction) for e in answer.edges]
    drawn = [e for e in edges if e[2] != "shared start"]
    wrong, right, turned, unknown = [], [], [], []
    for parent, child, kind, direction in drawn:
        forward, back = pairs.get((parent, child)), pairs.get((child, parent))
        if forward and forward["expect"] in KIN:
            (right if direction == "hint" else unknown).append(f"{parent} -> {child} ({kind})")
        elif back and back["expect"] in KIN:
            (turned if direction == "hint" else unknown).append(f"{parent} -> {child} ({kind})")
        else:
            wrong.append(f"{parent} -> {child} ({kind}; {(forward or back or {}).get('relation', 'no such pair')})")
    groups = nx.Graph((p["parent"], p["child"]) for p in truth["pairs"] if p["expect"] in KIN)
    strangers = [f"{a} {b}" for a, b, *_ in drawn if not (a in groups and b in groups and nx.has_path(groups, a, b))]
    linked = {frozenset(e[:2]) for e in drawn}
    known = [p for p in truth["pairs"] if p["expect"] in KIN and {p["parent"], p["child"]} <= set(names)]
    direct = [p for p in known if p["relation"] not in ("siblings", "checkpoint")]
    summary = {
        "models": len(names) - len(left),
        "not_registered": left,
        "edges": len(drawn),
        "edges_between_kin": len(drawn) - len(strangers),
        "edges_between_strangers": strangers,
        "direction_right": len(right),
        "direction_turned": turned,
        "direction_unknown": unknown,
        "edges_between_kin_that_are_not_parent_and_child": wrong,
        "true_parent_child_pairs": len(direct),
        "of_these_drawn": sum(frozenset((p["parent"], p["child"])) in linked for p in direct),
        "not_drawn": [
            f"{p['parent']} -> {p['child']} ({p['relation']})" for p in direct if frozenset((p["parent"], p["child"])) not in linked
        ],
        "shared_starts": [f"{a} {b}" for a, b, kind, _ in edges if kind == "shared start"],
        "dot_edges": dot.count("->") + dot.count(" -- "),
        "svg_elements": sum(1 for _ in svg.iter()),
    }
    write_result("trees", summary)
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
