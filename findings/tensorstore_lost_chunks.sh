#!/usr/bin/env bash
# A TensorStore array whose chunk is lost reads as zeros, and zeros may have no chunk.
#
# Versions: tensorstore 0.1.86, numpy 2.4.6.
# A good guess: an array of which a chunk's file is gone raises when it is read.
# Seen: zarr, zarr3 and n5 all fill in zeros without an error. Nor can files be counted: zarr3 and n5 write no chunk
# for what is zero, zarr writes it. So neither a reader nor a list of files tells a checkpoint that lost a part from one whose biases are zero.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile tensorstore==0.1.86 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import os
import shutil

import numpy as np
import tensorstore


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def chunks():
    found = (os.path.relpath(os.path.join(folder, name), "a") for folder, _, names in os.walk("a") for name in names)
    return sorted(path for path in found if not path.endswith((".json", ".zarray")))


for driver, written in (("zarr", ["0.0", "1.0"]), ("zarr3", ["c/1/0"]), ("n5", ["1/0"])):
    shutil.rmtree("a", ignore_errors=True)
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": "a/"}}
    layout = tensorstore.ChunkLayout(chunk_shape=[2, 4])
    store = tensorstore.open(spec, create=True, dtype=tensorstore.float32, shape=[4, 4], chunk_layout=layout).result()
    values = np.zeros((4, 4), np.float32)
    values[2:] = 5  # the first chunk holds zeros, the second fives
    store.write(values).result()
    names = chunks()
    check(f"{driver}: chunks of an array that is half zeros", "two", names, names == written)
    for name in names:
        os.remove(os.path.join("a", name))
    read = tensorstore.open(spec).result().read().result()
    check(f"{driver}: read without its chunks", "an error", f"{np.count_nonzero(read)} of 8 fives", not read.any())
PY
cd "$work"
venv/bin/python check.py
