#!/usr/bin/env bash
# Flax restores arrays of other shapes and types than asked for, and drops entries that are not asked for.
#
# Versions: flax 0.12.8, jax 0.10.2, numpy 2.4.6.
# A good guess: from_bytes with a target checks the file against it, as PyTorch's load_state_dict does.
# Seen: only missing names are refused. A (3, 5) float16 array takes the place of a (4, 4) float32 one, and an entry that
# the target has not is left out, both without a word.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check flax==0.12.8 jax==0.10.2 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import numpy as np
from flax.serialization import from_bytes, to_bytes


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


target = {"kernel": np.zeros((4, 4), np.float32)}
written = to_bytes({"kernel": np.ones((3, 5), np.float16), "bias": np.ones(5, np.float32)})
read = from_bytes(target, written)
told = {name: (value.shape, value.dtype.name) for name, value in read.items()}
check("another shape and type, and an entry more", "ValueError", told, told == {"kernel": ((3, 5), "float16")})
try:
    told = from_bytes({"kernel": target["kernel"], "scale": np.ones(4)}, written)
except ValueError as error:
    told = type(error).__name__
check("an entry less", "ValueError", told, told == "ValueError")
PY
cd "$work"
venv/bin/python check.py
