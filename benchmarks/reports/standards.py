"""What other standards' own validators say of what is written for them.

    python -m benchmarks.reports.standards

Needs `pip install 'cyclonedx-python-lib[json-validation]' spdx-python-model in-toto-attestation`, all of which work offline. CycloneDX: the
strict schema of 1.6. SPDX: the bindings that the SPDX project makes from its model of 3.0.1 read every class, property and enumeration,
and write it again. in-toto: the attestation framework's own statement, parsed and validated. Model cards: huggingface_hub reads the head.
Of each form a spoilt document (a wrong type, an unknown relation, no digest, a head that is no list of names) has to be refused.
Writes results/standards.json.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import modelkin
from benchmarks.common.results import write_result
from benchmarks.reports.cases import HOSTILE, models
from modelkin.evidencing import FORMS

PAIRS = (("child", "parent"), ("stranger", "parent"), ("graft", "other"), ("two parts", "parent"), (HOSTILE[0], HOSTILE[2]))
PACKAGES = ("cyclonedx-python-lib", "spdx-python-model", "in-toto-attestation", "huggingface_hub")


def cyclonedx(text: str) -> None:
    """Raises ValueError for what the schema refuses."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    if (error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
        raise ValueError(str(error))


def spdx(text: str) -> None:
    """Raises ValueError and others for what the model refuses."""
    from spdx_python_model import v3_0_1 as model

    found = model.SHACLObjectSet()
    model.JSONLDDeserializer().read(io.BytesIO(text.encode()), found)
    if found.missing_ids:
        raise ValueError(f"not there: {found.missing_ids}")
    model.JSONLDSerializer().write(found, io.BytesIO())  # which refuses what is missing


def in_toto(text: str) -> None:
    """Raises ValueError and others for what the statement refuses."""
    from google.protobuf.json_format import Parse
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement

    Statement.copy_from_pb(Parse(text, statement_pb2.Statement())).validate()


def model_card(text: str) -> None:
    """Raises ValueError for a head that the Hub's client cannot read, or that names no model where it names any."""
    from huggingface_hub import ModelCard

    head = ModelCard(text[text.index("---") :]).data.to_dict()
    bases = head.get("base_model", [])
    if (
        not isinstance(bases, list)
        or not all(isinstance(one, str) and one for one in bases)
        or set(head) - {"base_model", "base_model_relation"}
    ):
        raise ValueError(f"no head: {head}")
    if head.get("base_model_relation", "finetune") not in ("adapter", "merge", "quantized", "finetune"):
        raise ValueError(head["base_model_relation"])


def spoilt(form: str, text: str) -> str:
    """A document with one thing in it that its standard forbids."""
    if form == "model-card":
        return "---\nbase_model:\n  parent: [1]\n---\n"
    found: dict[str, Any] = json.loads(text)
    if form == "cyclonedx":
        found["components"][0]["type"] = "machine-learned"
    elif form == "spdx":
        next(one for one in found["@graph"] if one["type"] == "Relationship")["relationshipType"] = "stolenFrom"
    else:
        found["subject"][0].pop("digest")
    return json.dumps(found)


VALIDATORS: dict[str, Callable[[str], None]] = {"cyclonedx": cyclonedx, "spdx": spdx, "in-toto": in_toto, "model-card": model_card}


def refused(form: str, text: str) -> str:
    """Why a validator refuses a document; "" if it does not."""
    try:
        VALIDATORS[form](text)
    except Exception as error:  # each validator has errors of its own
        return f"{type(error).__name__}: {str(error)[:200]}"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    valid = dict.fromkeys(FORMS, 0)
    caught = dict.fromkeys(FORMS, 0)
    reasons: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        found = models(Path(folder))
        for number, (a, b) in enumerate(PAIRS):
            told = modelkin.evidence(found[a], found[b], Path(folder) / f"{number}.json", forms=tuple(FORMS))
            for form, file in told.beside.items():
                text = Path(file).read_text(encoding="utf-8")
                why = refused(form, text)
                valid[form] += not why
                caught[form] += bool(refused(form, spoilt(form, text)))
                reasons += [f"{form} {number}: {why}"] if why else []
    result = {"documents_of_each": len(PAIRS), "valid": valid, "spoilt_refused": caught, "refused": reasons}
    write_result("standards", result, out=given.out, packages=PACKAGES)


if __name__ == "__main__":
    main()
