#!/usr/bin/env bash
# Two NVFP4 writers agree in nothing but the shapes: nibbles, block scales and the tensor's scale differ.
#
# Versions: comfy-kitchen 0.2.40, compressed-tensors 0.20.0, torch 2.13.0, on the CPU.
# A good guess: NVFP4 is one format: low nibble first, block scales in rows, value = code * block scale *
# tensor scale.
# Seen: for a 128 x 64 weight both have 128 x 32 bytes and 128 x 4 float8 scales. comfy-kitchen puts the first
# value in the high nibble and the block scales in the tensor core's tiled order; compressed-tensors has low
# nibble and plain order, but its global scale is the reciprocal (value = code * block scale / global scale).
# Read in the other's way a weight is noise of the right size.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 comfy-kitchen==0.2.40 compressed-tensors==0.20.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import warnings

warnings.simplefilter("ignore")
import torch
from comfy_kitchen.tensor.nvfp4 import TensorCoreNVFP4Layout
from compressed_tensors.compressors.nvfp4.base import NVFP4PackedCompressor
from compressed_tensors.quantization import preset_name_to_scheme
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


levels = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
torch.manual_seed(0)
w = torch.randn(128, 64)


def error(packed, scales, factor, low_first, tiled):
    first, second = (packed & 15, packed >> 4) if low_first else (packed >> 4, packed & 15)
    code = torch.stack([first, second], -1).reshape(128, 64).long()
    s = scales.float()
    if tiled:  # tile of 128 x 4: 32 rows of 16, four groups of 32 rows side by side
        s = s.reshape(32, 4, 4).transpose(0, 1).reshape(128, 4)
    return round(float((levels[code] * s.repeat_interleave(16, 1) * factor - w).norm() / w.norm()), 3)


packed, params = TensorCoreNVFP4Layout.quantize(w)
parts = TensorCoreNVFP4Layout.state_dict_tensors(packed, params)
scale, factor = parts["_scale"], parts["_scale_2"]
check("comfy-kitchen: shapes of codes and block scales", ((128, 32), (128, 4)), (tuple(packed.shape), tuple(scale.shape)),
      (tuple(packed.shape), tuple(scale.shape)) == ((128, 32), (128, 4)))
for what, low, tiled, still in [("low nibble, rows", True, False, lambda e: e > 1), ("high nibble, rows", False, False, lambda e: e > 0.2),
                                ("high nibble, tiles", False, True, lambda e: e < 0.12)]:
    e = error(packed, scale, factor, low, tiled)
    check(f"comfy-kitchen: relative error read as {what}", 0.1 if low else "large", e, still(e))
scheme = preset_name_to_scheme("NVFP4A16", ["Linear"])
ends = w.reshape(128, 4, 16)
g = generate_gparam(w.min(), w.max())
s, _ = calculate_qparams(ends.amin(-1), ends.amax(-1), scheme.weights, global_scale=g)
out = NVFP4PackedCompressor.compress({"weight": w, "weight_scale": s, "weight_global_scale": g}, scheme)
for what, f, still in [("code * scale * global", g, lambda e: e > 1000), ("code * scale / global", 1 / g, lambda e: e < 0.12)]:
    e = error(out["weight_packed"], out["weight_scale"], f, True, False)
    check(f"compressed-tensors: relative error as {what}", 0.1 if "*" in what[-8:] else "large", e, still(e))
ratio = float(g * factor)
check("one's tensor scale times the other's", "the scale squared", round(ratio, 4), abs(ratio - 1) < 1e-3)
PY
cd "$work"
venv/bin/python check.py
