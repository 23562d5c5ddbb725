#!/usr/bin/env bash
# A GGUF list without entries is not written at all.
#
# Versions: gguf 0.19.0, numpy 2.4.6.
# A good guess: add_array with an empty list writes a list of length 0, or is refused.
# Seen: the key is left out of the file, without a word; a list of one entry is there. A list of a whole number and a
# fraction is refused, so an empty one is the only that is lost.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check gguf==0.19.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import gguf
import numpy as np


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


writer = gguf.GGUFWriter("a.gguf", "llama")
writer.add_array("one.entry", [1])
writer.add_array("no.entry", [])
writer.add_tensor("t", np.ones((2, 32), np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
keys = [key for key in gguf.GGUFReader("a.gguf").fields if key.endswith("entry")]
check("keys read back", ["one.entry", "no.entry"], keys, keys == ["one.entry"])
PY
cd "$work"
venv/bin/python check.py
