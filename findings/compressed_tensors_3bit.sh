#!/usr/bin/env bash
# compressed-tensors 0.18 changed how 3-bit weights are packed, and reads older ones as other numbers.
#
# Versions: compressed-tensors 0.17.1 writes, 0.20.0 reads, torch 2.13.0.
# A good guess: the format is called pack-quantized in both and the packed words are int32 in both, so a
# newer release reads what an older one wrote, or refuses it.
# Seen: up to 0.17 an int32 held ten 3-bit codes and two idle bits; from 0.18 the codes run on across
# words. The newer reader takes the longer rows without complaint and gives wrong codes after the tenth.
# 4-bit words are the same in both.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 compressed-tensors==0.20.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import sys

import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


codes = ((torch.arange(64) % 8) - 4).to(torch.int8).reshape(1, 64)
if sys.argv[1:] == ["write"]:
    torch.save({bits: pack_to_int32(codes, bits) for bits in (3, 4)}, "old.pt")
    raise SystemExit
old = torch.load("old.pt")
for bits, still in [(3, False), (4, True)]:
    new = pack_to_int32(codes, bits)
    read = unpack_from_int32(old[bits], bits, codes.shape)
    check(f"{bits} bits: words in a row by the older and the newer release; codes read right by the newer, of 64",
          "equal; 64", f"{old[bits].shape[1]}, {new.shape[1]}; {int((read == codes).sum())}", torch.equal(read, codes) == still)
    check(f"{bits} bits: codes 8..13", codes[0, 8:14].tolist(), read[0, 8:14].tolist(), torch.equal(read[0, :10], codes[0, :10]))
PY
cd "$work"
venv/bin/pip install --quiet --disable-pip-version-check --no-compile --no-deps --target older compressed-tensors==0.17.1
PYTHONPATH=older venv/bin/python check.py write
venv/bin/python check.py
