#!/usr/bin/env bash
# In DuckDB the vectors most similar to a query are those of zeros.
#
# Versions: duckdb 2.0.1.
# A good guess: the cosine with a vector of zeros is NULL or 0, and comes last.
# Seen: it is NaN, and NaN is greater than every number, so ORDER BY similarity DESC LIMIT k gives the zeros first, and max() is NaN.
# By distance, ascending, they come last.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile duckdb==2.0.1
cat > "$work/check.py" <<'PY'
import duckdb


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


table = "(values ('zeros', [0, 0]::FLOAT[2]), ('same', [1, 0]::FLOAT[2]), ('near', [1, 1]::FLOAT[2])) t(name, v)"
query = "[1, 0]::FLOAT[2]"
seen = [row[0] for row in duckdb.sql(f"select name from {table} order by array_cosine_similarity(v, {query}) desc").fetchall()]
check("by similarity, the most similar first", ["same", "near", "zeros"], seen, seen == ["zeros", "same", "near"])
seen = duckdb.sql(f"select max(array_cosine_similarity(v, {query})) from {table}").fetchall()[0][0]
check("the greatest similarity", 1.0, seen, seen != seen)
seen = [row[0] for row in duckdb.sql(f"select name from {table} order by array_cosine_distance(v, {query})").fetchall()]
check("by distance, the nearest first", ["same", "near", "zeros"], seen, seen == ["same", "near", "zeros"])
PY
cd "$work"
venv/bin/python check.py
