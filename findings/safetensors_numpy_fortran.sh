#!/usr/bin/env bash
# safetensors.numpy.save_file writes a Fortran-ordered array wrongly, without a word.
#
# Versions: safetensors 0.8.0, numpy 2.4.6.
# A good guess: the values come back (NumPy knows the strides), or the call refuses a
# non-contiguous array, as safetensors.torch.save_file does.
# Seen: the bytes are written in memory order under the C-order shape, so the tensor that is
# read back has the right shape, dtype and set of values, in the wrong places. Weights that
# were transposed (w.T) before saving are hit by this.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import numpy as np
from safetensors.numpy import load_file, save_file


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


w = np.arange(6, dtype=np.float32).reshape(2, 3)
save_file({"w": np.asfortranarray(w)}, "w.safetensors")
back = load_file("w.safetensors")["w"]
check("values of a Fortran-ordered 2 x 3 array after save and load", w.tolist(), back.tolist(),
      back.shape == w.shape and back.ravel().tolist() == w.ravel(order="F").tolist())
PY
cd "$work"
venv/bin/python check.py
