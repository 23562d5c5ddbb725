#!/usr/bin/env bash
# A U16 tensor read by Paddle is bfloat16: the code 16256 becomes 1.0.
#
# Versions: paddlepaddle 3.3.1, safetensors 0.8.0, numpy 2.4.6.
# A good guess: Paddle has no uint16, so it is an error, or the values are widened to int32.
# Seen: uint16 is Paddle's way to say bfloat16 to NumPy, and the way back holds for every uint16: the
# bits of packed codes are taken for bfloat16, also by safetensors.paddle, and saved again as BF16.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile paddlepaddle==3.3.1 safetensors==0.8.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import json
import warnings

warnings.simplefilter("ignore")
import numpy as np
import paddle
import safetensors.numpy
import safetensors.paddle


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


codes = np.array([1, 2, 16256], np.uint16)
safetensors.numpy.save_file({"q": codes}, "q.safetensors")
t = safetensors.paddle.load_file("q.safetensors")["q"]
check("U16 codes [1, 2, 16256] read by safetensors.paddle", "an error, or 1, 2, 16256",
      (str(t.dtype), t.astype("float32").numpy().tolist()), t.dtype == paddle.bfloat16 and float(t[2]) == 1)
t = paddle.to_tensor(codes)
check("paddle.to_tensor of the NumPy array", "an error, or 1, 2, 16256", (str(t.dtype), t.astype("int32").numpy().tolist()),
      t.dtype == paddle.bfloat16 and t.astype("int32").numpy().tolist() == [0, 0, 1])
safetensors.paddle.save_file({"q": t}, "again.safetensors")
raw = open("again.safetensors", "rb").read()
kind = json.loads(raw[8:8 + int.from_bytes(raw[:8], "little")])["q"]["dtype"]
check("dtype in the file when it is saved again", "U16", kind, kind == "BF16")
PY
cd "$work"
venv/bin/python check.py
