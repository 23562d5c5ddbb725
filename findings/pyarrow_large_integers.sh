#!/usr/bin/env bash
# pyarrow reads 64-bit digests from JSON and CSV as floats, so that two of them are one.
#
# Versions: pyarrow 26.0.1, duckdb 2.0.1, polars 2.1.0, pandas 3.1.1, numpy 2.4.6.
# A good guess: a whole number above 2**63 becomes uint64, as pandas reads it, a wider type, as DuckDB and Polars have, or an error.
# Seen: one such number makes the column double, the smaller ones beside it too: the lowest ten or eleven bits of every digest are gone,
# different digests compare equal, and nothing is said. With an explicit schema of uint64 they are kept.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile pyarrow==26.0.1 duckdb==2.0.1 polars==2.1.0 pandas==3.1.1 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import duckdb
import pandas
import polars
import pyarrow
import pyarrow.csv
import pyarrow.json


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


digests = [0xD24EC4F1A98C6E5B, 0xD24EC4F1A98C6E5C, 0x123456789ABCDEF1]
with open("a.json", "w") as file:
    file.writelines(f'{{"digest": {d}}}\n' for d in digests)
with open("a.csv", "w") as file:
    file.writelines(["digest\n", *(f"{d}\n" for d in digests)])
for name, read in [("pyarrow.json", pyarrow.json.read_json), ("pyarrow.csv", pyarrow.csv.read_csv)]:
    column = read("a." + name[8:])["digest"]
    seen = [int(d) for d in column.to_pylist()]
    still = str(column.type) == "double" and seen[0] == seen[1] and seen[2] != digests[2]
    check(f"{name}: the type, and three digests", ["uint64", *digests], [str(column.type), *seen], still)
schema = pyarrow.json.ParseOptions(explicit_schema=pyarrow.schema([("digest", pyarrow.uint64())]))
others = {
    "pyarrow.json with a schema": pyarrow.json.read_json("a.json", parse_options=schema)["digest"].to_pylist(),
    "duckdb": [d for (d,) in duckdb.sql("from 'a.csv'").fetchall()],
    "polars": polars.read_csv("a.csv")["digest"].to_list(),
    "pandas": pandas.read_csv("a.csv")["digest"].tolist(),
}
for name, seen in others.items():
    check(f"{name}: kept", True, seen == digests, seen == digests)
PY
cd "$work"
venv/bin/python check.py
