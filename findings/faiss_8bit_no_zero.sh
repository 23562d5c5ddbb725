#!/usr/bin/env bash
# faiss' 8-bit scalar quantiser has no zero, and its direct form wraps at 256.
#
# Versions: faiss-cpu 1.15.1, numpy 2.4.6.
# A good guess: a number at the edge of the trained range comes back exactly, and numbers beyond the range are clamped.
# Seen: QT_8bit gives the middle of a cell back: of vectors trained on 0 to 1 a stored 0 is 1/510, and 1 is 1 + 1/510: there
# are 255 cells below 1, and 1 begins another. QT_8bit_direct keeps the lowest eight bits: 257 becomes 1, and 3.9
# becomes 3. So zeros of sparse vectors add up in inner products, and a large number becomes a small one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile faiss-cpu==1.15.1 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import faiss
import numpy as np


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def stored(kind, numbers, trained):
    index = faiss.IndexScalarQuantizer(4, getattr(faiss.ScalarQuantizer, kind))
    index.train(np.asarray(trained, np.float32))
    index.add(np.asarray([numbers], np.float32))
    return index.reconstruct(0)


zeros = stored("QT_8bit", [0, 0, 0, 1], [[0, 0, 0, 0], [1, 1, 1, 1]])
check("QT_8bit of 0, 0, 0, 1, trained on 0 to 1", [0, 0, 0, 1], zeros, np.allclose(zeros, [1 / 510] * 3 + [1 + 1 / 510], atol=1e-6))
direct = stored("QT_8bit_direct", [3.9, 255, 257, 300], [[0] * 4])
check("QT_8bit_direct of 3.9, 255, 257, 300", [4, 255, 255, 255], direct, direct.tolist() == [3, 255, 1, 44])
PY
cd "$work"
venv/bin/python check.py
