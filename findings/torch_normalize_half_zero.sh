#!/usr/bin/env bash
# torch's normalize makes NaN of a float16 vector of zeros.
#
# Versions: torch 2.13.0 on the CPU, numpy 2.4.6.
# A good guess: its eps keeps zeros zeros, as in float32 and bfloat16.
# Seen: the default eps 1e-12 is 0 in float16, so zeros are divided by 0. cosine_similarity, whose eps 1e-8 is 0 too, gives NaN.
# Padding rows and dead units of a half-precision model are such vectors; one NaN row spoils a whole matrix product.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import torch
from torch.nn.functional import cosine_similarity, normalize


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


for kind in (torch.float32, torch.bfloat16, torch.float16):
    zeros = torch.zeros(1, 3, dtype=kind)
    seen = normalize(zeros)[0].tolist()
    check(f"normalize of zeros, {kind}", [0.0, 0.0, 0.0], seen, (seen[0] != seen[0]) == (kind is torch.float16))
    seen = cosine_similarity(zeros, torch.ones(1, 3, dtype=kind)).item()
    check(f"cosine_similarity of zeros and ones, {kind}", 0.0, seen, (seen != seen) == (kind is torch.float16))
PY
cd "$work"
venv/bin/python check.py
