"""The answer as JUnit XML, which CI systems show: a test case a submission. Flagged ones fail, unreadable ones are errors, inconclusive
ones are skipped, with the reason."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from modelkin_registry.screening.results import FLAGGED, INCONCLUSIVE, UNREADABLE, Screened, Screening

TAGS = {FLAGGED: "failure", UNREADABLE: "error", INCONCLUSIVE: "skipped"}
UNPRINTABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML 1.0 cannot hold


def junit(answer: Screening) -> bytes:
    """The document."""
    counts = answer.counts
    told = {"tests": len(answer.results), "failures": counts[FLAGGED], "errors": counts[UNREADABLE], "skipped": counts[INCONCLUSIVE]}
    numbers = {name: str(value) for name, value in told.items()}
    top = ElementTree.Element("testsuites", {"name": "modelkin screen", **numbers})
    suite = ElementTree.SubElement(top, "testsuite", {"name": "modelkin screen", **numbers})
    for one in answer.results:
        _case(suite, one)
    return bytes(ElementTree.tostring(top, encoding="utf-8", xml_declaration=True)) + b"\n"


def _case(suite: ElementTree.Element, one: Screened) -> None:
    case = ElementTree.SubElement(suite, "testcase", {"classname": "submission", "name": plain(one.submission)})
    if (tag := TAGS.get(one.outcome)) is not None:
        message = plain(one.reason or one.outcome)
        part = ElementTree.SubElement(case, tag, {"message": message} | ({"type": one.outcome} if tag != "skipped" else {}))
        part.text = plain("\n".join(finding.sentence for finding in one.findings)) or None
    elif one.findings:
        ElementTree.SubElement(case, "system-out").text = plain("\n".join(finding.sentence for finding in one.findings))


def plain(text: str) -> str:
    """A text as XML can hold it."""
    return UNPRINTABLE.sub("\ufffd", text)
