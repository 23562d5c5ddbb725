"""CycloneDX 1.6, an ML-BOM: https://cyclonedx.org/docs/1.6/json/.

A relation whose direction no fact tells stands under `pedigree.variants`, which the standard has for just that ("the relationship between
components is not known"); `ancestors` and `descendants` are for what is told. What a folder declares is an ancestor marked as declared.
"""

from __future__ import annotations

import json
from typing import Any

from modelkin.standards.facts import CAUTION, Facts, Model


def cyclonedx(facts: Facts) -> str:
    """The document."""
    subject = _component(facts.a, "a")
    subject["pedigree"] = _pedigree(facts)
    subject["modelCard"] = {"considerations": {"technicalLimitations": [facts.sentence, CAUTION]}}
    subject["properties"] = [{"name": name, "value": value} for name, value in facts.properties]
    tool = {"type": "application", "name": "modelkin", "version": facts.made["modelkin"]}
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{facts.identifier}",
        "version": 1,
        "metadata": {"timestamp": facts.made["at"], "tools": {"components": [tool]}},
        "components": [subject],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _pedigree(facts: Facts) -> dict[str, Any]:
    declared = [
        {"type": "machine-learning-model", "name": name, "properties": [{"name": "modelkin:basis", "value": "declared"}]}
        for name in facts.declared
    ]
    found: dict[str, Any] = {"ancestors": declared} if declared else {}
    if facts.is_descent:
        place = {"a from b": "ancestors", "b from a": "descendants"}.get(facts.direction, "variants")
        other = _component(facts.b, "b")
        share = {"name": "modelkin:share", "value": f"{facts.shared:.4f}"}
        other["properties"] = [{"name": "modelkin:basis", "value": "measured"}, share]
        found.setdefault(place, []).append(other)
    return {**found, "notes": f"{facts.sentence} {CAUTION}"}


def _component(model: Model, reference: str) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "machine-learning-model", "bom-ref": reference, "name": model.name}
    if model.revision:
        found["version"] = model.revision
    if len(model.files) == 1:
        found["hashes"] = [{"alg": "SHA-256", "content": model.files[0][1]}]
    elif model.files:
        found["components"] = [
            {"type": "file", "name": name, "hashes": [{"alg": "SHA-256", "content": digest}]} for name, digest in model.files
        ]
    return found
