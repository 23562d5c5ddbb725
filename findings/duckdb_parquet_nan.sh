#!/usr/bin/env bash
# DuckDB finds no NaN in a Parquet file that pyarrow or Polars wrote, not even with isnan().
#
# Versions: duckdb 2.0.1, pyarrow 26.0.1, polars 2.1.0, numpy 2.4.6.
# A good guess: WHERE isnan(x) gives the same rows of a file as of a table, and max(x) is NaN, as DuckDB orders NaN above all numbers.
# Seen: the writers leave NaN out of a row group's least and greatest value, as the format asks them to, and DuckDB takes these two for
# the range of all there is: the row group is skipped and no row comes back. max(x) is the largest number of pyarrow's file, and NaN
# of Polars' own. Of a file that DuckDB wrote itself the rows are found. So a check for damaged weights or vectors passes on damaged ones.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile duckdb==2.0.1 pyarrow==26.0.1 polars==2.1.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import duckdb
import numpy as np
import polars
import pyarrow
import pyarrow.parquet


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


x = np.array([1, 2, 3, np.nan], np.float32)
made = pyarrow.table({"row": np.arange(4), "x": x})
pyarrow.parquet.write_table(made, "pyarrow.parquet")
polars.DataFrame({"row": np.arange(4), "x": x}).write_parquet("polars.parquet")
duckdb.sql("copy (from made) to 'duckdb.parquet'")
places = {"the table in memory": "made"}
places |= {f"a file by {name}": f"'{name.lower()}.parquet'" for name in ("DuckDB", "pyarrow", "Polars")}
for name, place in places.items():
    seen = [[row for (row,) in duckdb.sql(f"select row from {place} where {test}").fetchall()] for test in ("isnan(x)", "x > 100")]
    highest = duckdb.sql(f"select max(x) from {place}").fetchall()[0][0]
    kept = "DuckDB" in name or "memory" in name
    still = (seen == [[3], [3]] and np.isnan(highest)) if kept else (seen == [[], []] and (highest == 3.0) == ("pyarrow" in name))
    check(f"{name}: rows with isnan(x), rows with x > 100, max(x)", [[3], [3], float("nan")], [*seen, highest], still)
seen = polars.scan_parquet("pyarrow.parquet").filter(polars.col("x").is_nan()).collect()["row"].to_list()
check("rows with NaN in pyarrow's file by Polars", [3], seen, seen == [3])
PY
cd "$work"
venv/bin/python check.py
