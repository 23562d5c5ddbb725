"""An in-toto statement, to be signed: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md."""

from __future__ import annotations

import json

from modelkin.standards.facts import CAUTION, Facts, Model

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://github.com/modelkin/modelkin/evidence/v1"


def in_toto(facts: Facts) -> str:
    """The statement: its subjects are the files of both models, its predicate what was measured and the digest of the bundle."""
    predicate = {
        "tool": {"name": "modelkin", "version": facts.made["modelkin"]},
        "madeAt": facts.made["at"],
        "models": {"a": facts.a.name, "b": facts.b.name},
        "sentence": facts.sentence,
        "caution": CAUTION,
        "measured": {name.removeprefix("modelkin:"): value for name, value in facts.properties},
        "declaredBases": list(facts.declared),
        "evidence": {"digest": {"sha256": facts.digest}},
    }
    subjects = [one for model in (facts.a, facts.b) for one in _subjects(model)]
    document = {"_type": STATEMENT, "subject": subjects, "predicateType": PREDICATE, "predicate": predicate}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _subjects(model: Model) -> list[dict[str, object]]:
    """A model's files; without digests of these its fingerprint."""
    files = model.files or ((f"{model.name}.modelkin", model.fingerprint),)
    return [{"name": f"{model.name}/{name}", "digest": {"sha256": digest}} for name, digest in files]
