"""What other standards' own validators say of what is written for them.

    python -m benchmarks.reports.standards --multitool node_modules/@microsoft/sarif-multitool-linux/Sarif.Multitool --signing model_signing

Needs `pip install 'cyclonedx-python-lib[json-validation]' spdx-python-model in-toto-attestation` and `npm install
@microsoft/sarif-multitool`, all of which work offline. CycloneDX: the
strict schema of 1.6. SPDX: the bindings that the SPDX project makes from its model of 3.0.1 read every class, property and enumeration,
and write it again. in-toto: the attestation framework's own statement, parsed and validated. Model cards: huggingface_hub reads the head.
SARIF: reports of a screening, by the validator of its authors: the schema of 2.1.0, its rules, and those of GitHub's code scanning; counted
are errors and warnings. Of each form a spoilt document (a wrong type, an unknown relation, no digest, a head that is no list of names, an
unknown level) has to be refused. Each bundle with its documents is signed by `model_signing` (`pip install model-signing pyopenssl`, in an
environment of its own) with a key of one's own; the signature has to verify, and not once a digit of any file was changed.
Writes results/standards.json.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import modelkin
from benchmarks.common.code_hosts import sarif, sarif_spoilt
from benchmarks.common.results import write_result
from benchmarks.common.signatures import new_key, signed, verifies
from benchmarks.reports.cases import HOSTILE, batch, models
from modelkin.evidencing import FORMS
from modelkin_data.policy import default_policy

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
    elif form == "sarif":
        return sarif_spoilt(text)
    elif form == "spdx":
        next(one for one in found["@graph"] if one["type"] == "Relationship")["relationshipType"] = "stolenFrom"
    else:
        found["subject"][0].pop("digest")
    return json.dumps(found)


VALIDATORS: dict[str, Callable[[str], None]] = {"cyclonedx": cyclonedx, "spdx": spdx, "in-toto": in_toto, "model-card": model_card}


def screenings(folder: Path) -> Iterator[str]:
    """Reports of batches: flagged, clear, unreadable, with hostile names; under the default policy and one that flags nothing."""
    found = batch(folder)
    noted = folder / "noted.toml"
    noted.write_text(default_policy().replace('= "flag"', '= "note"'))
    for number, policy in enumerate((None, noted)):
        out = folder / f"out-{number}"
        modelkin.screen(found.manifest, out=out, policy=policy, registry=found.registry)
        yield (out / "report.sarif").read_text(encoding="utf-8")


def refused(form: str, text: str) -> str:
    """Why a validator refuses a document; "" if it does not."""
    try:
        VALIDATORS[form](text)
    except Exception as error:  # each validator has errors of its own
        return f"{type(error).__name__}: {str(error)[:200]}"
    return ""


def told_of_signature(program: Path, documents: Path, keys: tuple[Path, Path]) -> Iterator[str]:
    """What a signature over a folder of documents says of them, and of each once it was changed."""
    signature = documents.with_suffix(".sig")
    signed(program, documents, signature, keys[0])
    yield "verified" if verifies(program, documents, signature, keys[1]) else "sound and refused"
    for file in sorted(documents.iterdir()):
        text = file.read_text(encoding="utf-8")
        file.write_text(re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), text, count=1), encoding="utf-8")
        yield "changed and verified" if verifies(program, documents, signature, keys[1]) else "changed and refused"
        file.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--multitool", type=Path, required=True, help="the program of the SARIF Multitool")
    parser.add_argument("--signing", type=Path, required=True, help="the program of model_signing")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    VALIDATORS["sarif"] = partial(sarif, given.multitool)
    documents: dict[str, list[str]] = {form: [] for form in VALIDATORS}
    with tempfile.TemporaryDirectory() as folder:
        found, signatures = models(Path(folder)), Counter[str]()
        keys = new_key(Path(folder))
        for number, (a, b) in enumerate(PAIRS):
            pair = Path(folder) / f"pair-{number}"
            pair.mkdir()
            told = modelkin.evidence(found[a], found[b], pair / "pair.json", forms=tuple(FORMS))
            for form, file in told.beside.items():
                documents[form].append(Path(file).read_text(encoding="utf-8"))
            signatures.update(told_of_signature(given.signing.absolute(), pair, keys))
        documents["sarif"] += screenings(Path(folder) / "batch")
    why = {form: [refused(form, text) for text in texts] for form, texts in documents.items()}
    result = {
        "documents": {form: len(texts) for form, texts in documents.items()},
        "valid": {form: reasons.count("") for form, reasons in why.items()},
        "spoilt_refused": {form: sum(bool(refused(form, spoilt(form, text))) for text in texts) for form, texts in documents.items()},
        "signatures": dict(signatures),
        "refused": [f"{form}: {reason}" for form, reasons in why.items() for reason in reasons if reason],
    }
    write_result("standards", result, out=given.out, packages=PACKAGES)


if __name__ == "__main__":
    main()
