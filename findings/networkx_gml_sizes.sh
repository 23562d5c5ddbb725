#!/usr/bin/env bash
# networkx writes a size of three billion to GML as text, and reads it back as a string.
#
# Versions: networkx 3.6.1, numpy 2.4.6.
# A good guess: whole numbers come back as whole numbers, as they do from GraphML and JSON, or what GML cannot hold is refused.
# Seen: integers outside 32 bits are put in quotes and are strings when read, those inside stay integers, and True becomes 1: "bytes" is
# an int for a small model and a str for one of 3 GB, so the two cannot be ordered. A NumPy float32 is refused, while GraphML takes it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile networkx==3.6.1 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import networkx as nx
import numpy as np


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


graph = nx.Graph()
graph.add_node("small", bytes=2_000_000_000)
graph.add_node("large", bytes=3_000_000_000, gated=True)
nx.write_gml(graph, "graph.gml")
read = nx.read_gml("graph.gml").nodes
seen = [read["small"]["bytes"], read["large"]["bytes"], read["large"]["gated"]]
check("GML: 2e9 and 3e9 bytes, True", [2_000_000_000, 3_000_000_000, True], seen, seen == [2_000_000_000, "3000000000", 1])
nx.write_graphml(graph, "graph.graphml")
seen = nx.read_graphml("graph.graphml").nodes["large"]["bytes"]
check("GraphML: 3e9 bytes", 3_000_000_000, seen, seen == 3_000_000_000)
graph.add_edge("small", "large", weight=np.float32(0.5))
try:
    nx.write_gml(graph, "graph.gml")
    seen = "written"
except nx.NetworkXError as error:
    seen = str(error)
check("GML: a NumPy float32 weight", "written", seen, "is not a string" in seen)
nx.write_graphml(graph, "graph.graphml")
seen = nx.read_graphml("graph.graphml").edges["small", "large"]["weight"]
check("GraphML: a NumPy float32 weight", 0.5, seen, seen == 0.5)
PY
cd "$work"
venv/bin/python check.py
