#!/usr/bin/env bash
# SciPy's minimum spanning tree of a dense matrix leaves out the closest pair.
#
# Versions: scipy 1.17.1, numpy 2.4.6.
# A good guess: only an exact 0 means "no edge" in a dense matrix.
# Seen: distances below 1e-8 count as no edge too, so two points that lie 1e-9 apart are joined by the long way round, the tree's
# length is wrong, and shortest_path between them goes by the third point. The same matrix as a sparse array keeps the edge.
# connected_components may then split what is almost equal.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile scipy==1.17.1 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree, shortest_path


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


apart = np.array([[0, 1e-9, 0.5], [1e-9, 0, 0.5], [0.5, 0.5, 0]])
dense, sparse = minimum_spanning_tree(apart).sum(), minimum_spanning_tree(csr_array(apart)).sum()
check("length of the tree, dense matrix", 0.500000001, float(dense), dense == 1.0)
check("length of the tree, sparse array", 0.500000001, float(sparse), abs(sparse - 0.5) < 1e-6)
way = shortest_path(apart, directed=False)[0, 1]
check("way between the two closest", 1e-9, float(way), way == 1.0)
two = np.array([[0, 1e-9], [1e-9, 0]])
parts = connected_components(two, directed=False)[0]
check("parts of two points 1e-9 apart", 1, parts, parts == 2)
PY
cd "$work"
venv/bin/python check.py
