#!/usr/bin/env bash
# pandas writes a p-value of 1e-12 to JSON as 0.0 and one of 1e-20 as 1e-20, and reads the string "12e4567" as infinity.
#
# Versions: pandas 3.1.1, numpy 2.4.6.
# A good guess: to_json writes what float() can read back, or rounds to a number of digits; read_json leaves JSON's strings strings.
# Seen: ten decimal places are kept by default, so numbers below 5e-11 are 0.0, but those below 1e-15 are written in full again. A
# column of strings that all look like numbers becomes numbers: short digests or ids lose leading zeros or are infinite. to_dict and the json
# module keep both; so do double_precision=15 (for 1e-12) and dtype=False.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile pandas==3.1.1 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import io
import json

import pandas as pd


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


table = pd.DataFrame({"p": [1e-20, 1e-12, 1e-9], "id": ["0123", "12e4567", "99"]})
seen = [row["p"] for row in json.loads(table.to_json(orient="records"))]
check("p-values 1e-20, 1e-12, 1e-9 in to_json", [1e-20, 1e-12, 1e-9], seen, seen == [1e-20, 0.0, 1e-9])
text = json.dumps(table.to_dict("records"))
seen = pd.read_json(io.StringIO(text))["id"].tolist()
check('the strings "0123", "12e4567", "99" by read_json', ["0123", "12e4567", "99"], seen, seen == [123.0, float("inf"), 99.0])
seen = pd.read_json(io.StringIO(text), dtype=False)["id"].tolist()
check("the same with dtype=False", ["0123", "12e4567", "99"], seen, seen == ["0123", "12e4567", "99"])
PY
cd "$work"
venv/bin/python check.py
