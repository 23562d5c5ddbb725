#!/usr/bin/env bash
# A FAISS IVF index gives a new vector the id of one that is in it, once anything was removed.
#
# Versions: faiss-cpu 1.15.1, numpy 2.4.6.
# A good guess: ids of what was removed stay unused, or vectors move up as they do in a flat index; an id names one vector.
# Seen: remove_ids of an IVF index leaves all other ids as they are, while add counts on from the number of vectors. After 2 of 100 are
# removed the next one is called 98, as one is from the beginning: both are answered as 98, and removing 98 takes both. A flat
# index renumbers, so that 2 becomes 0. With ids of one's own (add_with_ids) all is well.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile faiss-cpu==1.15.1 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import faiss
import numpy as np

faiss.omp_set_num_threads(1)


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


x = np.random.default_rng(0).standard_normal((101, 8)).astype(np.float32)
for name, second, last in [("IndexIVFFlat", 2, 98), ("IndexFlatL2", 0, 96)]:
    flat = faiss.IndexFlatL2(8)
    index = faiss.IndexIVFFlat(flat, 8, 1) if name == "IndexIVFFlat" else flat
    if name == "IndexIVFFlat":
        index.train(x)
    index.add(x[:100])
    index.remove_ids(np.array([0, 1]))
    index.add(x[100:])
    seen = [int(index.search(x[i : i + 1], 1)[1][0, 0]) for i in (2, 98, 100)]
    check(f"{name}: ids of the vectors 2, 98 and the one added after 0 and 1 went", [2, 98, "another"], seen, seen == [second, last, 98])
    gone = index.remove_ids(np.array([98]))
    check(f"{name}: vectors that go when 98 is removed", 1, gone, gone == (2 if name == "IndexIVFFlat" else 1))
PY
cd "$work"
venv/bin/python check.py
