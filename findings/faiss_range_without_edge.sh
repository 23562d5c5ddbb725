#!/usr/bin/env bash
# FAISS' range search with radius 0 does not find the vector itself.
#
# Versions: faiss-cpu 1.15.1, numpy 2.4.6.
# A good guess: everything within the radius is found, what lies at it too, as scikit-learn's radius_neighbors does.
# Seen: the radius itself is left out in all flat indexes: below it for distances, above it for products. So exact
# copies are not found at radius 0, nor by a product of 1, and sign codes that differ in d bits need the radius d + 1.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check faiss-cpu==1.15.1 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import faiss
import numpy as np


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


x = np.eye(3, dtype=np.float32)
for name, radius in [("IndexFlatL2", 0.0), ("IndexFlatIP", 1.0)]:
    index = getattr(faiss, name)(3)
    index.add(x)
    found = index.range_search(x[:1], radius)[2].tolist()
    check(f"{name}.range_search of a vector that is in it, radius {radius}", [0], found, found == [])
index = faiss.IndexBinaryFlat(8)
index.add(np.array([[1], [3]], np.uint8))
found = [index.range_search(np.array([[1]], np.uint8), radius)[2].tolist() for radius in (0, 1, 2)]
check("IndexBinaryFlat: codes at 0 and 1 bits, radius 0, 1, 2", [[0], [0, 1], [0, 1]], found, found == [[], [0], [0, 1]])
PY
cd "$work"
venv/bin/python check.py
