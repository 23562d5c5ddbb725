#!/usr/bin/env bash
# torch.save writes the file's own name into the file: two copies saved under two names differ.
#
# Versions: torch 2.13.0.
# A good guess: the bytes depend on what is saved.
# Seen: all entries of the archive lie in a folder named after the file, so the same tensors saved as first.pt and as
# other.pt have different digests, and renaming a file does not make it the file that saving under that name gives. Saved
# into a buffer the folder is called "archive".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import hashlib
import io
import zipfile

import torch


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


content = {"weight": torch.ones(3)}
digests, folders = set(), []
for name in ("first.pt", "other.pt"):
    torch.save(content, name)
    with open(name, "rb") as file:
        digests.add(hashlib.file_digest(file, "sha256").hexdigest())
    folders.append(zipfile.ZipFile(name).namelist()[0].split("/")[0])
buffer = io.BytesIO()
torch.save(content, buffer)
folders.append(zipfile.ZipFile(buffer).namelist()[0].split("/")[0])
check("digests of one content under two names", 1, len(digests), len(digests) == 2)
check("top folders in first.pt, other.pt and a buffer", ["archive"] * 3, folders, folders == ["first", "other", "archive"])
PY
cd "$work"
venv/bin/python check.py
