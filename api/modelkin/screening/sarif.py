"""The answer as SARIF 2.1.0, which code hosts show beside files: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote

from modelkin_registry.screening.results import UNREADABLE, Screened, ScreenFinding, Screening
from modelkin_registry.screening.rules import FLAG, INCONCLUSIVE, RULES
from modelkin_registry.screening.sentences import DIRECTION

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS = {FLAG: "error", INCONCLUSIVE: "warning"}  # of an action; all else is a note
HOME = "https://github.com/modelkin/modelkin"
GUIDE = f"{HOME}/blob/main/docs/screening.md"
REGION = {"startLine": 1}  # code hosts take no finding without one, of whole files either
UNREAD = "A submission that could not be read."


def sarif(answer: Screening, base: str, version: str) -> dict[str, Any]:
    """One run. Paths are told from the folder `base` where they lie in it."""
    names = list(RULES)
    rules = [_rule(rule.name, rule.words, rule.action) for rule in RULES.values()] + [_rule(UNREADABLE, UNREAD, FLAG)]
    results = []
    for one in answer.results:
        if one.outcome == UNREADABLE:
            results.append(_result(one, UNREADABLE, len(names), "error", one.reason or "", base))
        results += [_finding(one, finding, names.index(finding.rule), base) for finding in one.findings]
    driver = {"name": "modelkin", "informationUri": HOME, "semanticVersion": version, "rules": rules}
    told = {"counts": answer.counts, "policy": answer.policy_digest, "key": answer.key, "models": answer.models}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results, "properties": told}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(name: str, words: str, action: str) -> dict[str, Any]:
    return {
        "id": name,
        "name": "".join(part.capitalize() for part in (*name.split("-"), "finding")),  # else it may be the id once more
        "shortDescription": {"text": words},
        "fullDescription": {"text": f"{words} {DIRECTION}"},
        "help": {"text": f"{words} {DIRECTION} What it does is set under [rules] in the policy: {GUIDE}"},
        "helpUri": GUIDE,
        "defaultConfiguration": {"level": LEVELS.get(action, "note")},
    }


def _finding(one: Screened, finding: ScreenFinding, index: int, base: str) -> dict[str, Any]:
    found = _result(one, finding.rule, index, LEVELS.get(finding.action, "note"), finding.sentence, base)
    if finding.component:
        found["locations"][0]["logicalLocations"].append({"name": finding.component, "kind": "component"})
    told = {"relative": finding.relative, "relation": finding.relation, "pValue": finding.p_value, "qValue": finding.q_value}
    return found | {"properties": {name: value for name, value in told.items() if value is not None}}


def _result(one: Screened, rule: str, index: int, level: str, text: str, base: str) -> dict[str, Any]:
    location = {
        "physicalLocation": {"artifactLocation": {"uri": address(one.source, base)}, "region": REGION},
        "logicalLocations": [{"name": one.submission}],
    }
    return {"ruleId": rule, "ruleIndex": index, "level": level, "message": {"text": text}, "locations": [location]}


def address(source: str, base: str) -> str:
    """A source as a URI: relative where it lies in the folder `base`."""
    if "://" in source:
        return quote(source, safe=":/@")
    path = os.path.relpath(source, base)
    inside = not path.startswith(os.pardir)
    return quote(os.fsencode(path)) if inside else "file://" + quote(os.fsencode(os.path.abspath(source)))  # noqa: PTH100
