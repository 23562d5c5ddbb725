"""A page as a file, by the suffix of its name: .html, .md with its pictures beside it, or .pdf from the same HTML."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from urllib.parse import quote

from modelkin.made import Made
from modelkin.reporting.languages import SUFFIXES
from modelkin.reporting.page import html_page, markdown_page, pictures_of
from modelkin.reporting.texts import texts_of
from modelkin.reporting.view import Answer, view_of
from modelkin_indexer.errors import ReportError
from modelkin_registry.answers.tree import TreeAnswer

NEEDS_WEASYPRINT = (
    "a page as PDF needs WeasyPrint and the system's Pango library: pip install 'modelkin[pdf]'. "
    "Without them, give a name that ends in .html, and print that page to PDF in a browser: it is made for paper too."
)


def report_path(file: str | os.PathLike[str]) -> Path:
    """Where a page may be written. Raises ReportError for a suffix that no page has."""
    path = Path(file)
    if path.suffix.lower() not in SUFFIXES:
        raise ReportError(f"{path}: the name of a report ends in {', '.join(SUFFIXES)}.")
    return path


def write_report(answer: Answer, made: Made, path: Path, language: str, subject: str, tree: TreeAnswer | None = None) -> tuple[Path, ...]:
    """Write the page, and return the files that were written. A file of that name is replaced, as a shell's `>` does.

    Raises:
        ReportError: a language that there are no texts of, or PDF without WeasyPrint.
        OSError: a file cannot be written.
    """
    say = texts_of(language)
    view = view_of(answer, made, tree, say)
    if path.suffix.lower() == ".md":
        drawn = {one.name: path.with_name(f"{path.stem}-{_plain(one.name)}.svg") for one in pictures_of(view)}
        for one in pictures_of(view):
            _write(drawn[one.name], (one.svg + "\n").encode())
        links = {name: quote(file.name) for name, file in drawn.items()}
        _write(path, markdown_page(view, subject, say, links).encode())
        return (path, *drawn.values())
    page = html_page(view, subject, say)
    _write(path, page.encode() if path.suffix.lower() == ".html" else pdf_of(page))
    return (path,)


def pdf_of(page: str) -> bytes:
    """The page on paper. Nothing is fetched for it. Raises ReportError without WeasyPrint."""
    try:
        with warnings.catch_warnings():  # of what its next versions will want of the system, which is no reader's business
            warnings.simplefilter("ignore", DeprecationWarning)
            from weasyprint import HTML
    except (ImportError, OSError) as error:  # OSError: the library of the system is not there
        raise ReportError(NEEDS_WEASYPRINT) from error

    pdf: bytes = HTML(string=page, url_fetcher=_nothing).write_pdf(pdf_ua=True)
    return pdf


def _nothing(url: str, *_: object, **__: object) -> dict[str, object]:
    if url.startswith("data:"):
        return {"string": b"", "mime_type": "text/plain"}
    raise ValueError(f"{url}: a report asks for nothing outside itself")


def _plain(name: str) -> str:
    """A component's name as part of a file's."""
    return "".join(c if c.isalnum() and c.isascii() else "-" for c in name)


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
