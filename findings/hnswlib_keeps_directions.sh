#!/usr/bin/env bash
# hnswlib's cosine index gives other vectors back than were added.
#
# Versions: hnswlib 0.8.0, numpy 2.4.6.
# A good guess: get_items returns what was added, as with the spaces l2 and ip.
# Seen: with space cosine the vectors are stored with length 1, and so they come back: 3, 4 is 0.6, 0.8. Lengths are lost, and an
# index that is read to be built again in another space holds other vectors. The inner product space's distance is 1 - x'y,
# so the nearest item has a negative distance and an item is not nearest to itself.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile hnswlib==0.8.0 numpy==2.4.6 setuptools==80.9.0
cat > "$work/check.py" <<'PY'
import hnswlib
import numpy as np


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


added = np.array([[3, 4], [30, 40]], np.float32)
for space, want in (("l2", added), ("ip", added), ("cosine", np.array([[0.6, 0.8], [0.6, 0.8]], np.float32))):
    index = hnswlib.Index(space, 2)
    index.init_index(2)
    index.add_items(added, [0, 1])
    back = np.asarray(index.get_items([0, 1]), np.float32)
    check(f"vectors back from space {space}", added.tolist(), back.tolist(), np.allclose(back, want, atol=1e-6))
    if space == "ip":
        ids, distances = index.knn_query(added[:1], 2)
        check("nearest to item 0 by inner product", [0, 1], (ids[0].tolist(), distances[0].tolist()), ids[0].tolist() == [1, 0])
PY
cd "$work"
venv/bin/python check.py
