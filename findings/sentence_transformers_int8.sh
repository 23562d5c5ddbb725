#!/usr/bin/env bash
# Of a hundred vectors that sentence-transformers quantised to int8, its own search by dot product finds none by itself.
#
# Versions: sentence-transformers 6.2.0, transformers 5.23.0, torch 2.13.0, numpy 2.4.6.
# A good guess: dot_score widens what quantize_embeddings makes, so a search among int8 codes answers nearly as one among floats.
# Seen: the products are added in int8 and wrap, so scores lie between -128 and 127 and mean nothing; cos_sim refuses int8. Nor are codes signed
# numbers: each coordinate's range is laid on -128 to 127, so 0 is wherever that range has it, and 0.5 is -90 where all others are larger.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile sentence-transformers==6.2.0 transformers==5.23.0
cat > "$work/check.py" <<'PY'
import logging

logging.disable(logging.WARNING)
import numpy as np
from sentence_transformers.util import cos_sim, dot_score, quantize_embeddings, semantic_search


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


vectors = np.random.default_rng(0).standard_normal((100, 384)).astype(np.float32)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
codes = quantize_embeddings(vectors, "int8")


def itself(rows):
    return sum(hits[0]["corpus_id"] == number for number, hits in enumerate(semantic_search(rows, rows, top_k=1, score_function=dot_score)))


seen = [itself(vectors), itself(codes.astype(np.float32)), itself(codes)]
check("how many of 100 find themselves: floats, codes as floats, codes", [100, 100, 100], seen, seen[:2] == [100, 100] and seen[2] < 10)
seen = [str(dot_score(codes, codes).dtype), int(dot_score(codes, codes).max())]
check("the type of the scores, and the largest", "wider than int8", seen, seen[0] == "torch.int8" and seen[1] <= 127)
try:
    seen = str(cos_sim(codes, codes).dtype)
except RuntimeError as error:
    seen = str(error)
check("cos_sim of the codes", "torch.float32", seen, "floating point" in seen)
positive = np.abs(np.random.default_rng(1).standard_normal((1000, 4))).astype(np.float32)
seen = quantize_embeddings(np.full((1, 4), 0.5, np.float32), "int8", calibration_embeddings=positive)[0].tolist()
check("codes of 0.5 among numbers from 0 to 3", "positive", seen, max(seen) < 0)
PY
cd "$work"
venv/bin/python check.py
