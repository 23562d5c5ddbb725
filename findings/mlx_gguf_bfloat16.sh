#!/usr/bin/env bash
# MLX reads bfloat16 tensors of a GGUF file as float16: large ones are infinite, small ones 0.
#
# Versions: mlx 0.32.4 (CPU), gguf 0.19.0, numpy 2.4.6.
# A good guess: MLX has bfloat16, so BF16 stays what it is, as it does from safetensors.
# Seen: each value is converted to float16: 70000 is inf, 1e-9 is 0. (Q4_0, Q4_1 and Q8_0 come as MLX's own packed form, F32 as float32.)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile 'mlx[cpu]==0.32.4' gguf==0.19.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import gguf
import mlx.core as mx
import numpy as np


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


kind = gguf.GGMLQuantizationType.BF16
values = np.array([[70000.0, 1e-9, 1.0, -3.0] * 8], np.float32)
writer = gguf.GGUFWriter("a.gguf", "llama")
writer.add_tensor("a.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
stored = gguf.GGUFReader("a.gguf").tensors[0]
own = gguf.quants.dequantize(stored.data, stored.tensor_type)[0, :4].tolist()
check("gguf's own reading", [70000.0, 1e-9, 1.0, -3.0], own, abs(own[0] - 70000) < 400 and own[1] > 0)
read = mx.load("a.gguf")["a.weight"]
seen = (str(read.dtype), read[0, :4].tolist())
check("MLX's reading", ("mlx.core.bfloat16", own), seen, seen == ("mlx.core.float16", [float("inf"), 0.0, 1.0, -3.0]))
PY
cd "$work"
venv/bin/python check.py
