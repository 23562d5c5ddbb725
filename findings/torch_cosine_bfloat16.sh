#!/usr/bin/env bash
# torch's cosine similarity of a bfloat16 vector with itself is 1.0078.
#
# Versions: torch 2.13.0 on the CPU, numpy 2.4.6.
# A good guess: 1.0: sums of bfloat16 are kept in float32 inside and rounded once.
# Seen: the lengths and the products are each rounded to the input's type, so equal vectors give
# 1.0078 or 0.9961 in bfloat16 and 0.9995 in float16, depending on length and values. A threshold such as
# "cosine above 0.999 is a copy" needs float32.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import torch
from torch.nn.functional import cosine_similarity


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


torch.manual_seed(0)
for what, x, still in [
    ("3000 ones, bfloat16", torch.ones(3000, dtype=torch.bfloat16), lambda c: c > 1.005),
    ("1000 hundreds, float16", torch.full((1000,), 100, dtype=torch.float16), lambda c: c < 0.9999),
    ("1000 hundreds, float32", torch.full((1000,), 100.0), lambda c: abs(c - 1) < 1e-5),
]:
    c = float(cosine_similarity(x, x, dim=0))
    check(f"cosine with itself: {what}", 1.0, round(c, 4), still(c))
cosines = [float(cosine_similarity(x, x, dim=0)) for x in torch.randn(200, 3000).bfloat16()]
values = sorted(set(round(c, 4) for c in cosines))
check("values over 200 random bfloat16 vectors", [1.0], values, len(values) > 1)
PY
cd "$work"
venv/bin/python check.py
