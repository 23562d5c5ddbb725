#!/usr/bin/env bash
# compressed-tensors writes 4-bit weights of eight rows with zero points, and cannot read them back; of nine rows it can.
#
# Versions: compressed-tensors 0.20.1, torch 2.13.0.
# A good guess: what `compress` returns, `decompress` takes, whatever the number of rows: a router of eight
# experts has eight.
# Seen: zero points are packed along the rows, eight in an int32. With eight rows or fewer there is one
# word a group, and the transposed view of it has no contiguous last axis that could be seen as bytes:
# RuntimeError (self.stride(-1) must be 1), also after a round trip through a file. With nine rows, and
# without zero points, all is well.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 compressed-tensors==0.20.1 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from safetensors.torch import load, save


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def read_back(rows, symmetric):
    weights = QuantizationArgs(num_bits=4, type="int", strategy="group", group_size=32, symmetric=symmetric)
    scheme = QuantizationScheme(targets=["Linear"], weights=weights)
    weight = torch.linspace(-1, 1, rows * 128).reshape(rows, 128)
    groups = weight.reshape(rows, 4, 32)
    scale = (groups.amax(-1) - groups.amin(-1)) / 15
    zero = (-8 - groups.amin(-1) / scale).round().clamp(-8, 7).to(torch.int8)
    packer = BaseCompressor.get_value_from_registry("pack-quantized")
    stored = packer.compress({"weight": weight, "weight_scale": scale, "weight_zero_point": zero}, scheme)
    kept = load(save({name: tensor.contiguous() for name, tensor in stored.items()}))
    try:
        return str(tuple(packer.decompress(kept, scheme)["weight"].shape))
    except RuntimeError as error:
        return f"RuntimeError: {error}"


for rows, symmetric, fails in ((8, False, True), (9, False, False), (8, True, False)):
    seen = read_back(rows, symmetric)
    told = "no zero points" if symmetric else "zero points"
    check(f"{rows} rows, {told}: the weight read back from a file", f"({rows}, 128)", seen, ("RuntimeError" in seen) == fails)
PY
"$work/venv/bin/python" "$work/check.py"
