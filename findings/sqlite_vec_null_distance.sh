#!/usr/bin/env bash
# sqlite-vec ranks a vector without a direction between the others, at a distance of NULL.
#
# Versions: sqlite-vec 0.1.9, apsw 3.54.1.0.
# A good guess: a zero vector has the distance 1, or comes last; a vector of tiny numbers is at 0 from itself.
# Seen: its cosine distance is NULL, and the row stands before a vector at distance 2: in the order of the table, not at an end, so
# a filter on distance drops it silently. Squares are summed in float32, so the same holds of 1e-30 with itself.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile sqlite-vec==0.1.9 apsw==3.54.1.0
cat > "$work/check.py" <<'PY'
import apsw
import sqlite_vec


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


base = apsw.Connection(":memory:")
base.enable_load_extension(True)
base.load_extension(sqlite_vec.loadable_path())
base.execute("create virtual table t using vec0(v float[2] distance_metric=cosine)")
base.execute("insert into t(rowid, v) values (1, '[1, 0]'), (2, '[0, 0]'), (3, '[-1, 0]')")
rows = list(base.execute("select rowid, distance from t where v match '[1, 0]' and k = 3"))
check("nearest to (1, 0), of itself, zeros and (-1, 0)", [(1, 0.0), (2, 1.0), (3, 2.0)], rows, rows == [(1, 0.0), (2, None), (3, 2.0)])
tiny = next(base.execute("select vec_distance_cosine('[1e-30, 0]', '[1e-30, 0]')"))[0]
check("cosine distance of 1e-30, 0 from itself", 0.0, tiny, tiny is None)
PY
cd "$work"
venv/bin/python check.py
