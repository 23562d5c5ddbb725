#!/usr/bin/env bash
# safetensors' get_slice takes a negative row but no negative bound, and no bound past the end.
#
# Versions: safetensors 0.8.0, numpy 2.4.6.
# A good guess: get_slice follows NumPy, since s[-1], s[::2] and s[..., 0] do.
# Seen: s[-1] is the last row, but s[-2:] is an OverflowError and s[0:100] of 3 rows is an error
# instead of the rows that there are. Code that reads a tensor in blocks must cut the last block.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


save_file({"w": np.arange(12, dtype=np.float32).reshape(3, 4)}, "w.safetensors")


def take(index):
    with safe_open("w.safetensors", "np") as f:
        try:
            return f.get_slice("w")[index].tolist()
        except Exception as e:
            return f"{type(e).__name__}: {e}"


last, tail, over = take(-1), take(slice(-2, None)), take(slice(0, 100))
check("s[-1]", "the last row", last, last == [8.0, 9.0, 10.0, 11.0])
check("s[-2:]", "the last two rows", tail, isinstance(tail, str) and "OverflowError" in tail)
check("s[0:100] of 3 rows", "3 rows", over, isinstance(over, str) and "out of bounds" in over)
PY
cd "$work"
venv/bin/python check.py
