#!/usr/bin/env bash
# in-toto signs no score of 0.97 in a Link, and its attestation library writes a count of 1 as 1.0.
#
# Versions: in-toto 3.1.0, securesystemslib 1.6.0, in-toto-attestation 0.9.3, protobuf 7.36.2.
# A good guess: evidence is JSON, so numbers go in and come out as in JSON.
# Seen: a Link is encoded in a canonical JSON that has no floats, so that one with a float cannot even be made. A Statement's predicate is a
# protobuf Struct, whose numbers are doubles: 1 is written as 1.0 and 2**53 + 1 as 9007199254740992.0. An empty predicate is none, and
# is refused. So the bytes that are signed are not those of the same JSON from elsewhere.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile in-toto==3.1.0 securesystemslib==1.6.0 in-toto-attestation==0.9.3 protobuf==7.36.2
cat > "$work/check.py" <<'PY'
import json

from google.protobuf.json_format import MessageToJson
from in_toto.models.link import Link
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from securesystemslib.exceptions import FormatError


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


for byproducts in ({"score": 0.97}, {"score": "0.97"}):
    try:
        seen = f"signed: {len(Link(name='compare', byproducts=byproducts).signable_bytes)} bytes"
    except FormatError as error:
        seen = str(error)[-20:]
    check(f"a Link with the byproducts {byproducts}", "signed", seen, ("cannot encode 0.97" in seen) == (byproducts["score"] == 0.97))
subject = [ResourceDescriptor(name="model", digest={"sha256": "a" * 64}).pb]
numbers = {"layers": 1, "bytes": 2**53 + 1, "score": 0.97}
text = MessageToJson(Statement(subject, "https://example.org/score", numbers).pb)
seen = {name: json.loads(text)["predicate"][name] for name in numbers}
check("a Statement's predicate", numbers, seen, str(seen["layers"]) == "1.0" and seen["bytes"] == 2**53 and seen["score"] == 0.97)
try:
    Statement(subject, "https://example.org/score", {}).validate()
    seen = "valid"
except ValueError as error:
    seen = str(error)
check("a Statement with an empty predicate", "valid", seen, "required" in seen)
PY
cd "$work"
venv/bin/python check.py
