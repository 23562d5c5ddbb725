#!/usr/bin/env bash
# cyclonedx-python-lib reads a machine-learning BOM and gives it back without its model card.
#
# Version: cyclonedx-python-lib 11.12.0.
# A good guess: CycloneDX has had modelCard since 1.5, the library validates it and speaks 1.6 and 1.7,
# so reading and writing keeps it, or says what it cannot keep.
# Seen: the strict validator accepts the BOM; Bom.from_json drops modelCard, the component's data,
# formulation and annotations in silence. Hashes and pedigree stay.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check 'cyclonedx-python-lib[json-validation]==11.12.0'
cat > "$work/check.py" <<'PY'
import json

from cyclonedx.model.bom import Bom
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


component = {"type": "machine-learning-model", "name": "m", "version": "1", "bom-ref": "m",
             "modelCard": {"modelParameters": {"task": "classification"}},
             "data": [{"type": "dataset", "name": "d"}],
             "hashes": [{"alg": "SHA-256", "content": "a" * 64}],
             "pedigree": {"ancestors": [{"type": "machine-learning-model", "name": "base"}]}}
bom = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": [component],
       "formulation": [{"bom-ref": "f"}],
       "annotations": [{"subjects": ["m"], "annotator": {"individual": {"name": "n"}},
                        "timestamp": "2024-01-01T00:00:00Z", "text": "t"}]}
fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bom))
check("strict validation of the BOM", "no fault", fault, fault is None)
back = json.loads(make_outputter(Bom.from_json(bom), OutputFormat.JSON, SchemaVersion.V1_6).output_as_string())
lost = sorted(set(component) - set(back["components"][0])) + sorted(set(bom) - set(back))
check("fields lost by reading and writing", [], lost, lost == ["data", "modelCard", "annotations", "formulation"])
PY
cd "$work"
venv/bin/python check.py
