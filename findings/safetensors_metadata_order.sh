#!/usr/bin/env bash
# safetensors writes the same tensors and metadata as other bytes each time.
#
# Versions: safetensors 0.8.0, numpy 2.4.6.
# A good guess: one content gives one file, so that equal files have equal digests.
# Seen: with several entries in the metadata their order in the header changes from save to save, within one process too,
# and with it the digest of the file. With one entry, or none, twenty saves are byte for byte the same.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import hashlib

import numpy as np
from safetensors.numpy import save


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


tensors = {"a": np.ones(2, np.float32)}
for count in (0, 1, 6):
    metadata = {f"key{number}": "value" for number in range(count)} or None
    digests = {hashlib.sha256(save(tensors, metadata)).hexdigest() for _ in range(20)}
    check(f"digests of 20 saves with {count} entries of metadata", 1, len(digests), (len(digests) > 1) == (count > 1))
PY
cd "$work"
venv/bin/python check.py
