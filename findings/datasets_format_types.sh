#!/usr/bin/env bash
# A Dataset says that its column is float64, int8 or uint64, and hands out float32, int64 and negative numbers.
#
# Versions: datasets 5.2.0, torch 2.13.0, numpy 2.4.6.
# A good guess: with_format("numpy") or "torch" gives arrays of the types that the features name; they are stored so in Arrow.
# Seen: every float column comes as float32, so 1e300 is infinite and float16 doubles; lists of int8 come as int64, eight times the
# memory; and a uint64 of 2**63 + 5 is negative with "torch", though right with "numpy". With a dtype given they come as asked for.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile datasets==5.2.0 torch==2.13.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import os
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.simplefilter("ignore")
import numpy as np
import torch
from datasets import Dataset


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


rows = Dataset.from_dict({"double": np.array([[1 / 3, 1e300]]), "half": np.array([[1, 2]], np.float16), "codes": np.array([[1, 2]], np.int8)})
names = ["double", "half", "codes"]
seen = [rows.features[name].feature.dtype for name in names]
check("types that the features name", ["float64", "float16", "int8"], seen, seen == ["float64", "float16", "int8"])
for form in ("numpy", "torch"):
    row = rows.with_format(form)[0]
    seen = [str(row[name].dtype).removeprefix("torch.") for name in names]
    check(f"types with_format({form!r})", ["float64", "float16", "int8"], seen, seen == ["float32", "float32", "int64"])
    seen = float(row["double"][1])
    check("1e300 of the float64 column", 1e300, seen, seen == float("inf"))
digests = Dataset.from_dict({"digest": np.array([2**63 + 5], np.uint64)})
seen = [int(digests.with_format(form)[0]["digest"]) for form in ("numpy", "torch")]
check("uint64 2**63 + 5 by numpy and torch", [2**63 + 5] * 2, seen, seen == [2**63 + 5, 5 - 2**63])
seen = float(rows.with_format("numpy", columns=["double"], dtype=np.float64)[0]["double"][1])
check("1e300 with dtype=np.float64", 1e300, seen, seen == 1e300)
PY
cd "$work"
venv/bin/python check.py
