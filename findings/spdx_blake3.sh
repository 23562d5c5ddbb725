#!/usr/bin/env bash
# spdx-tools asks for 256 hexadecimal digits in a BLAKE3 checksum, and refuses the 64 that every BLAKE3 tool gives.
#
# Versions: spdx-tools 0.8.5, blake3 1.0.11.
# A good guess: BLAKE3 is in SPDX's list of algorithms, so its usual digest of 256 bits is valid.
# Seen: bits are taken for digits: the document is not valid with 64 digits, and is with 256, which are 1024 bits. BLAKE2b-256
# and SHA-256 with 64 digits are valid. write_file validates unless told not to, so no document with a real BLAKE3 digest is written.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile spdx-tools==0.8.5 blake3==1.0.11
cat > "$work/check.py" <<'PY'
from blake3 import blake3
from spdx_tools.spdx.model import Checksum, ChecksumAlgorithm
from spdx_tools.spdx.validation.checksum_validator import validate_checksum


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def messages(algorithm, digest):
    checksum = Checksum(ChecksumAlgorithm[algorithm], digest)
    return [message.validation_message for message in validate_checksum(checksum, "SPDXRef-model", "SPDX-2.3")]


digest = blake3(b"weights").hexdigest()
seen = messages("BLAKE3", digest)
check(f"BLAKE3 with {len(digest)} digits", [], seen, len(seen) == 1 and "at least 256 lowercase hexadecimal digits" in seen[0])
seen = messages("BLAKE3", blake3(b"weights").hexdigest(length=128))
check("BLAKE3 with 256 digits", "refused", seen, seen == [])
for name in ("SHA256", "BLAKE2B_256"):
    seen = messages(name, digest)
    check(f"{name} with 64 digits", [], seen, seen == [])
PY
cd "$work"
venv/bin/python check.py
