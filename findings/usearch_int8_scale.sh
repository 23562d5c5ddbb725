#!/usr/bin/env bash
# A usearch index of int8 vectors divides each vector by its own length, whatever the metric.
#
# Versions: usearch 2.26.6, numpy 2.4.6.
# A good guess: floats are multiplied by 127 and clipped (so input should lie in -1..1), or one scale
# serves the whole index.
# Seen: each vector is brought to length 1 before it is stored in 127ths. So x and 3x get one code:
# their l2sq distance is 0 and "ip" no longer tells the longer one, though it does with float32.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check usearch==2.26.6 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import numpy as np
from usearch.index import Index


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


rng = np.random.default_rng(0)
x = rng.normal(size=16).astype(np.float32)
rows = np.stack([x, 3 * x])


def build(metric, dtype):
    index = Index(ndim=16, metric=metric, dtype=dtype)
    index.add(np.arange(2), rows)
    return index


i8 = build("l2sq", "i8")
codes = np.stack([i8.get(0), i8.get(1)])
want = np.rint(127 * x / np.linalg.norm(x))
check("int8 codes of x and 3x", "different", codes[:, :4].tolist(),
      np.array_equal(codes[0], codes[1]) and np.abs(codes[0] - want).max() <= 1)
far = [float(m.distance) for m in i8.search(x, 2)]
check("l2sq distances of x to (x, 3x)", "0 and a large one", far, far == [0.0, 0.0])
for dtype, same in [("f32", False), ("i8", True)]:
    d = [float(m.distance) for m in build("ip", dtype).search(x, 2)]
    check(f"'ip' distances, {dtype}", "3x is three times as near", d, (d[0] == d[1]) == same)
PY
cd "$work"
venv/bin/python check.py
