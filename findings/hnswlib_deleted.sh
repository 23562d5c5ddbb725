#!/usr/bin/env bash
# hnswlib counts and lists the vectors that were deleted, and a search for all of them is an error.
#
# Versions: hnswlib 0.8.0, numpy 2.4.6.
# A good guess: get_ids_list and the count leave out what mark_deleted took away, as get_items and searches do.
# Seen: the list of ids and both counts stay as they were, while get_items of such an id says "Label not found" and no search finds
# it. So items cannot be read by the list, and a search with k = get_current_count() is a RuntimeError that blames ef or M.
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


rows = np.eye(4, dtype=np.float32)
index = hnswlib.Index("l2", 4)
index.init_index(10)
index.add_items(rows, np.arange(4))
index.mark_deleted(2)
seen = sorted(index.get_ids_list())
check("ids after 2 of 0..3 was deleted", [0, 1, 3], seen, seen == [0, 1, 2, 3])
seen = [index.get_current_count(), index.element_count]
check("counts", [3, 3], seen, seen == [4, 4])
for what, call in [("items of the listed ids", lambda: len(index.get_items(index.get_ids_list()))),
                   ("a search with k = the count", lambda: index.knn_query(rows[:1], k=index.get_current_count())[0].shape[1])]:
    try:
        seen = call()
    except RuntimeError as error:
        seen = f"RuntimeError: {error}"
    check(what, 3, seen, str(seen).startswith("RuntimeError"))
seen = sorted(index.knn_query(rows[:1], k=3)[0][0].tolist())
check("a search with k = 3", [0, 1, 3], seen, seen == [0, 1, 3])
PY
cd "$work"
venv/bin/python check.py
