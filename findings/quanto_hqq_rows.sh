#!/usr/bin/env bash
# quanto and HQQ put rows i and i + N/2 in one byte, in opposite nibbles.
#
# Versions: optimum-quanto 0.2.7, hqq 0.2.8.post1, torch 2.13.0, on the CPU.
# A good guess: a byte holds two neighbours of a row, low nibble first, in both.
# Seen: both pair the first half of the rows with the second half; quanto has the first half in the
# low nibbles, HQQ in the high ones. HQQ's 3-bit words take ten rows that lie N/10 apart, and a packed
# tensor of 13 rows comes back with 20.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 optimum-quanto==0.2.7 hqq==0.2.8.post1 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import warnings

warnings.simplefilter("ignore")
import torch
from hqq.core.bitpack import BitPack
from optimum.quanto.tensor.packed import PackedTensor


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def text(t):
    return [[f"{b:02x}" for b in row] for row in t.tolist()]


x = torch.arange(16, dtype=torch.uint8).reshape(4, 4)
guess = [["10", "32"], ["54", "76"], ["98", "ba"], ["dc", "fe"]]
quanto = text(PackedTensor.pack(x, 4)._data)
check("quanto: codes 0..f in four rows", guess, quanto, quanto == [["80", "91", "a2", "b3"], ["c4", "d5", "e6", "f7"]])
hqq = text(BitPack.pack_4bit_u8(x))
check("HQQ: codes 0..f in four rows", guess, hqq, hqq == [["08", "19", "2a", "3b"], ["4c", "5d", "6e", "7f"]])
rows = BitPack.unpack_3bit_32(BitPack.pack_3bit_32((torch.arange(13) % 8).reshape(13, 1))).shape[0]
check("HQQ: rows that come back of 13, 3 bits", 13, rows, rows == 20)
PY
cd "$work"
venv/bin/python check.py
