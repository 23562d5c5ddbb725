#!/usr/bin/env bash
# faiss.IndexIDMap2 takes an id twice, answers for the last and removes both.
#
# Versions: faiss-cpu 1.15.1, numpy 2.4.6.
# A good guess: IDMap2 keeps a map from id to place, so a second vector of an id replaces the first
# or is an error.
# Seen: both stay and both are found by search; reconstruct gives the second; remove_ids of the one
# id takes both away; and ids that are given as floats are cut to integers.
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


x = np.eye(4, dtype=np.float32)
index = faiss.IndexIDMap2(faiss.IndexFlatL2(4))
index.add_with_ids(x[:2], np.array([7, 7]))
check("ntotal after adding id 7 twice", "1, or an error", index.ntotal, index.ntotal == 2)
found = index.search(x[:1], 2)[1][0].tolist()
check("search near the first vector", "7 once", found, found == [7, 7])
back = index.reconstruct(7)
check("reconstruct(7)", "an error: two vectors", back.tolist(), np.array_equal(back, x[1]))
gone = index.remove_ids(np.array([7]))
check("vectors removed by remove_ids([7])", 1, gone, gone == 2 and index.ntotal == 0)
index.add_with_ids(x[:2], np.array([1.5, 2.7]))
ids = faiss.vector_to_array(index.id_map).tolist()
check("ids given as [1.5, 2.7]", "a TypeError", ids, ids == [1, 2])
PY
cd "$work"
venv/bin/python check.py
