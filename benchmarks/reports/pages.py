"""Pages of answers in a browser: whether each opens without an error or a request, passes axe-core, fits a telephone and comes on paper.

    python -m benchmarks.reports.pages --browser /usr/bin/chromium --axe axe.min.js [--shots FOLDER] [--parts FILE --pages N]

Needs Playwright (`pip install playwright`), a Chromium and axe-core (`npm pack axe-core`). Each page in each language is opened as a file
at 1280 and 360 pixels: counted are console errors, requests that leave the file, scripts that ran, overflow to the side, violations that
axe-core finds (WCAG 2.0 to 2.2 A and AA, best practices) and pages of the PDF that the browser prints. With WeasyPrint installed every
fifth page is written by it too. Controls: a page with a remote picture, a script, a low contrast and no language has to fail each check.
With --parts a call looks at N more answers and keeps them in FILE; the result is written once all are there.
Writes results/pages.json, the tops of two pages as pictures beside it, and with --shots pictures of all pages there.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import modelkin
from benchmarks.common.results import result_path, write_result
from benchmarks.reports.cases import Question, questions
from modelkin.errors import ReportError
from modelkin.reporting.languages import LANGUAGES

WIDTHS = (1280, 360)
CONTROL = "control"
CHECKS = ("errors", "requests", "scripts", "overflow", "violations")
KEPT = {("query child", "ko", 1280): "query-ko", ("screen", "en", 360): "screen-360"}  # whose tops are kept with the result
TOP = 1400  # pixels of them
PAPER = 5  # every so many pages WeasyPrint is asked for one
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
ASK_AXE = "tags => axe.run(document, {runOnly: tags}).then(found => found.violations.map(v => [v.id, v.impact, v.nodes[0].html]))"
BAD = """<!DOCTYPE html><html><head><title>bad</title></head><body><img src="http://127.0.0.1:9/x.png"><p style="color:#ccc">faint</p>
<script>window.ran = 1; console.error("ran")</script><div style="width:3000px">wide</div></body></html>"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--browser", required=True, help="Chromium's program")
    parser.add_argument("--axe", required=True, type=Path, help="axe.min.js")
    parser.add_argument("--shots", type=Path, help="where pictures of the pages go")
    parser.add_argument("--parts", type=Path, help="keeps what was looked at")
    parser.add_argument("--pages", type=int, default=10_000, help="answers looked at in this call at most")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    done: list[dict[str, Any]] = json.loads(given.parts.read_text()) if given.parts and given.parts.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        asked = questions(Path(folder) / "models")
        known = {row["page"] for row in done}
        waiting = [one for one in enumerate(asked) if one[1].name not in known]
        done += measured(Path(folder), waiting[: given.pages], given)
    if given.parts:
        given.parts.write_text(json.dumps(done))
    if len(waiting) <= given.pages:
        write_result("pages", summary(done), out=given.out, packages=["jinja2", "playwright", "weasyprint"])


def measured(folder: Path, asked: Sequence[tuple[int, Question]], given: argparse.Namespace) -> list[dict[str, Any]]:
    """The pages of these questions looked at, and the control."""
    from playwright.sync_api import sync_playwright

    rows: list[dict[str, Any]] = []
    with sync_playwright() as started:
        program = started.chromium.launch(executable_path=given.browser, args=["--no-sandbox"])
        for number, question in asked:
            answer = question.ask()
            for language in LANGUAGES:
                file = folder / f"{number:02d}-{re.sub('[^a-z]+', '-', question.name.lower())}-{language}.html"
                about: dict[str, Any] = {"command": f"modelkin {question.name}", "models": question.models, "registry": question.registry}
                began = time.process_time()
                modelkin.report(answer, file, language=language, **about)
                row = {"page": question.name, "language": language, "seconds": time.process_time() - began, "bytes": file.stat().st_size}
                row |= looked_at(program, file, given.axe, given.shots) | {"browser": program.version}
                kept = {width: name for (page, of, width), name in KEPT.items() if (page, of) == (question.name, language)}
                keep(program, file.as_uri(), kept, given.out or result_path("pages"))
                rows.append(row | {"weasyprint": 0 if number % PAPER else paper(answer, file, language, about)})
        bad = folder / "bad.html"
        bad.write_text(BAD)
        rows.append({"page": CONTROL, "language": "", "weasyprint": 0, **looked_at(program, bad, given.axe, None)})
        program.close()
    return rows


def summary(looked: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of all pages."""
    rows = [row for row in looked if row["page"] != CONTROL]
    controls = [row for row in looked if row["page"] == CONTROL]
    faulty = [row for row in rows if any(row[check] for check in CHECKS)]
    return {
        "pages": len(rows),
        "pages_with_a_fault": len(faulty),
        "console_errors": sum(len(row["errors"]) for row in rows),
        "requests": sum(len(row["requests"]) for row in rows),
        "axe_violations": sum(len(row["violations"]) for row in rows),
        "overflowing": sum(bool(row["overflow"]) for row in rows),
        "largest_bytes": max(row["bytes"] for row in rows),
        "seconds_a_page": round(sum(row["seconds"] for row in rows) / len(rows), 3),
        "paper_pages_at_most": max(row["paper"] for row in rows),
        "weasyprint_pdfs": sum(row["weasyprint"] for row in rows),
        "control_fails_every_check": all(row[check] for row in controls for check in CHECKS),
        "browser": rows[0]["browser"],
        "faulty": faulty,
    }


def looked_at(program: Any, file: Path, axe: Path, shots: Path | None) -> dict[str, Any]:
    """One page that lies in a file."""
    return looked_at_address(program, file.as_uri(), file.stem, axe, shots)


def looked_at_address(
    program: Any, address: str, name: str, axe: Path, shots: Path | None, *, own: str = "file:", widths: Sequence[int] = WIDTHS
) -> dict[str, Any]:
    """One page at each width, as it is; axe-core is brought in afterwards, past the page's own policy. `own`: what it may ask for."""
    found: dict[str, Any] = {"errors": [], "requests": [], "scripts": 0, "overflow": [], "violations": [], "paper": 0}
    for width in widths:
        page = program.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda said: found["errors"].append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: found["errors"].append(str(error)))
        page.on("dialog", lambda dialog: (found["errors"].append("dialog"), dialog.dismiss()))
        page.on("request", lambda asked: found["requests"].append(asked.url) if not asked.url.startswith((own, "data:")) else None)
        page.goto(address)
        found["scripts"] += page.evaluate("document.scripts.length") + bool(page.evaluate("window.ran"))
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found["overflow"].append(width)
        if shots is not None:
            shots.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=shots / f"{name}-{width}.png", full_page=True)
        found["paper"] = max(found["paper"], len(re.findall(rb"/Type\s*/Page\b", page.pdf(prefer_css_page_size=True))))
        page.close()
        past = program.new_context(viewport={"width": width, "height": 900}, bypass_csp=True).new_page()
        past.goto(address)
        past.add_script_tag(content=axe.read_text(encoding="utf-8"))
        found["violations"] += [[width, *one] for one in past.evaluate(ASK_AXE, TAGS)]
        past.context.close()
    return found


def keep(program: Any, address: str, pictures: dict[int, str], result: Path) -> None:
    """The top of a page at these widths, as a picture beside the result."""
    for width, name in pictures.items():
        page = program.new_page(viewport={"width": width, "height": TOP})
        page.goto(address)
        page.screenshot(path=result.with_suffix(f".{name}.png"))
        page.close()


def paper(answer: Any, file: Path, language: str, about: dict[str, Any]) -> int:
    """Whether WeasyPrint wrote the page too."""
    try:
        modelkin.report(answer, file.with_suffix(".pdf"), language=language, **about)
    except ReportError:
        return 0
    return int(file.with_suffix(".pdf").read_bytes().startswith(b"%PDF-"))


if __name__ == "__main__":
    main()
