#!/usr/bin/env bash
# sqlite-vec quantises 1 to 126 and -1 to -128.
#
# Versions: sqlite-vec 0.1.9, apsw 3.54.1.0.
# A good guess: the range -1 to 1 goes to -127 to 127, nearest first, so that x and -x are opposites.
# Seen: it is laid on -128 to 127 and cut towards zero: 1 is 126, -1 is -128, 0.999 is 126 and -0.001 is 0, so a vector and its negative
# have other lengths, and the cosine of the two is not -1.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile sqlite-vec==0.1.9 apsw==3.54.1.0
cat > "$work/check.py" <<'PY'
import json

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


def ask(sql, *given):
    return next(base.execute(sql, given))[0]


def quantised(values):
    return json.loads(ask("select vec_to_json(vec_quantize_int8(vec_f32(?), 'unit'))", json.dumps(values)))


seen = quantised([1.0, -1.0, 0.999, 0.0])
check("1, -1, 0.999 and 0 as int8", [127, -127, 127, 0], seen, seen == [126, -128, 126, 0])
there, back = [0.5, 0.25, 1.0], [-0.5, -0.25, -1.0]
seen = (quantised(there), quantised(back))
check("a vector and its negative", "opposites", seen, seen[0] != [-x for x in seen[1]])
PY
cd "$work"
venv/bin/python check.py
