"""SPDX 3.0.1 with classes of its AI profile, as JSON-LD: https://spdx.github.io/spdx-spec/v3.0.1/.

`descendantOf` is said only where a fact tells the direction; else the relationship is `other`, and its comment says what is not excluded.
The bundle of evidence is an artifact that the first model `hasEvidence` of. Conformance with the AI profile is not claimed: it wants the
licences, the release and the supplier of each model, which nothing here tells.
"""

from __future__ import annotations

import json
from typing import Any

from modelkin.standards.facts import CAUTION, Facts, Model

CONTEXT = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"
CREATION = "_:creationinfo"


def spdx(facts: Facts) -> str:
    """The document."""
    base = f"urn:uuid:{facts.identifier}#"
    tool, document = f"{base}modelkin", f"{base}document"
    created = facts.made["at"].replace("+00:00", "Z")
    elements: list[dict[str, Any]] = [
        {"type": "CreationInfo", "@id": CREATION, "specVersion": "3.0.1", "created": created, "createdBy": [tool]},
        _element("SoftwareAgent", tool, name=f"modelkin {facts.made['modelkin']}"),
        *_model(facts.a, base, "a"),
        *_model(facts.b, base, "b"),
        _file(f"{base}evidence", "evidence", "evidence", facts.digest),
        _relation(facts, base),
        _element(
            "Relationship", f"{base}shown", **{"from": f"{base}a"}, to=[f"{base}evidence"], relationshipType="hasEvidence", comment=CAUTION
        ),
    ]
    named = [one["spdxId"] for one in elements if "spdxId" in one]
    elements.append(
        _element(
            "SpdxDocument",
            document,
            name=f"{facts.a.name} and {facts.b.name}",
            profileConformance=["core", "software"],
            rootElement=[f"{base}a"],
            element=named,
        )
    )
    return json.dumps({"@context": CONTEXT, "@graph": elements}, indent=1, ensure_ascii=False) + "\n"


def _element(kind: str, identifier: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "spdxId": identifier, "creationInfo": CREATION, **fields}


def _file(identifier: str, name: str, purpose: str, digest: str) -> dict[str, Any]:
    return _element("software_File", identifier, name=name, software_primaryPurpose=purpose, verifiedUsing=[_hash(digest)])


def _model(model: Model, base: str, side: str) -> list[dict[str, Any]]:
    """A model with its files."""
    files = [_file(f"{base}{side}-file-{at}", name, "model", digest) for at, (name, digest) in enumerate(model.files, 1)]
    more = {"software_packageVersion": model.revision} if model.revision else {}
    package = _element("ai_AIPackage", f"{base}{side}", name=model.name, software_primaryPurpose="model", **more)
    contained = [one["spdxId"] for one in files]
    holds = _element("Relationship", f"{base}{side}-files", **{"from": f"{base}{side}"}, to=contained, relationshipType="contains")
    return [package, *files, *([holds] if files else [])]


def _relation(facts: Facts, base: str) -> dict[str, Any]:
    told = "; ".join(f"{name} {value}" for name, value in facts.properties)
    first, second = ("b", "a") if facts.direction == "b from a" else ("a", "b")
    kind = "descendantOf" if facts.is_descent and facts.direction else "other"
    comment = f"{facts.sentence} Measured: {told}. {CAUTION}"
    ends = {"from": f"{base}{first}", "to": [f"{base}{second}"]}
    return _element("Relationship", f"{base}relation", **ends, relationshipType=kind, completeness="noAssertion", comment=comment)


def _hash(digest: str) -> dict[str, str]:
    return {"type": "Hash", "algorithm": "sha256", "hashValue": digest}
