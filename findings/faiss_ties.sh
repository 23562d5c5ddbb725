#!/usr/bin/env bash
# Equal vectors come back in opposite order from IndexFlatL2 and IndexFlatIP.
#
# Versions: faiss-cpu 1.15.1, numpy 2.4.6.
# A good guess: ties keep the order in which they were added, in every flat index.
# Seen: IndexFlatL2 and IndexBinaryFlat give 0 1 2 3 4, IndexFlatIP gives 4 3 2 1 0 for the first
# five of thirty equal vectors. The same ids are found; only the order in the row is turned.
# So with k = 1 the two agree, and with more the original of exact copies is last, not first.
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


x = np.ones((30, 16), np.float32)
rows = {}
for name in ["IndexFlatL2", "IndexFlatIP"]:
    index = getattr(faiss, name)(16)
    index.add(x)
    rows[name] = index.search(x[:1], 5)[1][0].tolist()
index = faiss.IndexBinaryFlat(128)
index.add(np.ones((30, 16), np.uint8))
rows["IndexBinaryFlat"] = index.search(np.ones((1, 16), np.uint8), 5)[1][0].tolist()
for name, row in rows.items():
    want = [4, 3, 2, 1, 0] if name == "IndexFlatIP" else [0, 1, 2, 3, 4]
    check(f"{name}, 5 of 30 equal vectors", [0, 1, 2, 3, 4], row, row == want)
PY
cd "$work"
venv/bin/python check.py
