#!/usr/bin/env bash
# A CycloneDX BOM that is read and written has its patches in the alphabet's order, and a date of today.
#
# Versions: cyclonedx-python-lib 11.12.0.
# A good guess: reading and writing keeps the order of arrays and what was left out (model cards apart, which are dropped).
# Seen: all arrays are sets in the library, sorted when written: the patches and ancestors by which a pedigree tells what was done one
# after another come sorted by name. A BOM without a timestamp gets the present time, so that each reading gives another
# digest, and "provides" of a dependency is gone. The strict validator takes the BOMs before and after.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile 'cyclonedx-python-lib[json-validation]==11.12.0'
cat > "$work/check.py" <<'PY'
import json

from cyclonedx.model.bom import Bom
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def again(**parts):
    start = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "serialNumber": "urn:uuid:3e671687-395b-41f5-a30f-a58921a69b79"}
    written = JsonV1Dot6(Bom.from_json(start | parts)).output_as_string()
    for text in (json.dumps(start | parts), written):
        if (error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
            raise SystemExit(f"not valid: {error}")
    return json.loads(written)


def model(**parts):
    return {"type": "machine-learning-model", "name": "model"} | parts


steps = ["prune", "merge", "distil"]
patches = [{"type": "unofficial", "diff": {"url": step}} for step in steps]
read = again(components=[model(pedigree={"patches": patches, "ancestors": [model(name=step) for step in steps]})])["components"][0]["pedigree"]
seen = [patch["diff"]["url"] for patch in read["patches"]]
check("patches", steps, seen, seen == sorted(steps))
seen = [ancestor["name"] for ancestor in read["ancestors"]]
check("ancestors", steps, seen, seen == sorted(steps))
seen = sorted(again()["metadata"])
check("metadata of a BOM that had none", [], seen, seen == ["timestamp"])
seen = again(components=[model(**{"bom-ref": "a"}), model(**{"bom-ref": "b"})], dependencies=[{"ref": "a", "provides": ["b"]}])["dependencies"]
check("a dependency that provides b", [{"ref": "a", "provides": ["b"]}], seen, not any("provides" in one for one in seen))
PY
cd "$work"
venv/bin/python check.py
