#!/usr/bin/env bash
# LanceDB leaves vectors of zeros out of every search by cosine.
#
# Versions: lancedb 0.40.0, pyarrow 26.0.1, numpy 2.4.6.
# A good guess: asked for as many rows as there are, a search without an index returns them all, zeros last.
# Seen: rows of zeros are missing, and a query of zeros finds nothing, without an error. By l2 and dot all rows come.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile lancedb==0.40.0 pyarrow==26.0.1 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import lancedb
import numpy as np


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


x = np.random.default_rng(0).standard_normal((50, 16)).astype(np.float32)
x[5] = 0
table = lancedb.connect("base").create_table("t", [{"id": i, "vector": row.tolist()} for i, row in enumerate(x)])
for metric, want in (("l2", 50), ("dot", 50), ("cosine", 49)):
    found = [row["id"] for row in table.search(x[7]).distance_type(metric).limit(50).to_list()]
    check(f"{metric}: rows found of 50, one of them zeros", 50, len(found), len(found) == want and (5 in found) == (want == 50))
found = len(table.search(x[5]).distance_type("cosine").limit(50).to_list())
check("cosine: rows found by a query of zeros", 50, found, found == 0)
PY
cd "$work"
venv/bin/python check.py
