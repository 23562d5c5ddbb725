#!/usr/bin/env bash
# sqlite-utils makes an INTEGER column for a NumPy integer and stores a blob in it.
#
# Versions: sqlite-utils 4.2.1, numpy 2.4.6.
# A good guess: the column type is chosen from the NumPy type, so the number is stored as a number.
# Seen: the column says INTEGER or REAL, each value is the raw bytes of the scalar (np.float64 alone is
# a Python float), so "where a = 5" finds nothing; np.bool_ is a KeyError.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check sqlite-utils==4.2.1 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import numpy as np
import sqlite_utils


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


db = sqlite_utils.Database(memory=True)
for value, column in [(np.int64(5), "INTEGER"), (np.float32(5), "REAL"), (np.uint8(5), "INTEGER"), (np.float64(5), "REAL")]:
    table = type(value).__name__
    db[table].insert({"a": value})
    row = next(iter(db.query(f"select typeof(a) as kind, a, a = 5 as equal from [{table}]")))
    declared = str(db[table].columns[0].type)
    blob = table != "float64"
    check(f"np.{table}(5) in a column of type {declared}", "a number equal to 5", row,
          declared == column and (row["kind"] == "blob") == blob and row["equal"] == (not blob))
try:
    db["flag"].insert({"a": np.bool_(True)})
    seen = "stored"
except KeyError as e:
    seen = f"KeyError: {e}"
check("np.bool_(True)", "stored as 1", seen, seen.startswith("KeyError"))
PY
cd "$work"
venv/bin/python check.py
