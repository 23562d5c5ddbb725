"""The file of a bundle: JSON in one canonical form, so that a changed byte is seen, and each section with its digest, so that it is named.

    format, version     what this file is
    made                how the answer came to be: tool, spec, id of the key, inputs with their digests, software (`modelkin.made.Made`)
    question            names of A, B and the controls, as the answer has them
    judge               what was judged by: models searched, the registry's own backgrounds, the table of shipped ones
    claims              what the folders of A and B say of each other's names: told in the answer, and never evidence
    fingerprints        of A, B and each control: SHA-256, digest of the weights, and the one-file form in base64
    answer              the JSON contract's answer of `compare`, without what lies beside the weights
    digests             SHA-256 of each section

Whoever changes a section can make its digest anew: digests show accidents. What the numbers are worth is shown by making them again
(checking.py), and who made the bundle by a signature over the file (docs/evidence.md).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelkin_indexer.errors import EvidenceError

FORMAT, VERSION = "modelkin evidence", 1
SECTIONS = ("made", "question", "judge", "claims", "fingerprints", "answer")
MOST_BYTES = 512 << 20  # of a bundle that is read: two models of 1,000 layers with controls take a tenth of that
GIVE = "Give the file that `modelkin evidence` wrote."
AGAIN = "Ask for the bundle again from whoever made it, or make it anew with `modelkin evidence`."


def canonical(value: Any) -> bytes:
    """The one form of a JSON value: names sorted, one space of indentation, numbers as Python's `repr` writes them, UTF-8."""
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical form."""
    return "sha256:" + hashlib.sha256(canonical(value)).hexdigest()


def to_bytes(sections: Mapping[str, Any]) -> bytes:
    """A bundle of these sections. A text that UTF-8 cannot hold is written with question marks."""
    known = json.loads(json.dumps(sections, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace"))
    return canonical({"format": FORMAT, "version": VERSION, **known, "digests": {name: digest(known[name]) for name in SECTIONS}})


def from_bytes(data: bytes, origin: str) -> dict[str, Any]:
    """The sections of a bundle. Raises EvidenceError for what is none, or is not in canonical form."""
    if len(data) > MOST_BYTES:
        raise EvidenceError(f"{origin}: has {len(data):,} bytes, more than any bundle of evidence. {GIVE}")
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise EvidenceError(f"{origin}: byte {error.start:,} is no UTF-8: the file is damaged. {AGAIN}") from error
    except json.JSONDecodeError as error:
        at = f"line {error.lineno:,}, column {error.colno:,}"
        raise EvidenceError(f"{origin}: {at}: {error.msg}: the file is damaged. {AGAIN}") from error
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"{origin}: is damaged ({error}). {AGAIN}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise EvidenceError(f"{origin}: `format` does not say {FORMAT!r}: this is no bundle, or a changed one. {GIVE}")
    if (theirs := found.get("version")) != VERSION:
        raise EvidenceError(f"{origin}: `version` is {theirs!r}, this modelkin reads {VERSION}. Use one that reads it.")
    if found.keys() != {"format", "version", "digests", *SECTIONS}:
        names = ", ".join(sorted(found.keys() ^ {"format", "version", "digests", *SECTIONS}))
        raise EvidenceError(f"{origin}: sections are missing or too many: {names}. {AGAIN}")
    if (first := _first_difference(data, _canonical_or_nothing(found))) is not None:
        line = data[:first].count(b"\n") + 1
        raise EvidenceError(f"{origin}: line {line:,} is not as `modelkin evidence` writes it: the file was changed. {AGAIN}")
    return found


def _canonical_or_nothing(found: Any) -> bytes:
    """The canonical form; nothing of what has none, as texts with half a character."""
    try:
        return canonical(found)
    except (ValueError, RecursionError):
        return b""


def read(path: Path) -> dict[str, Any]:
    """The sections of a bundle's file. Raises EvidenceError."""
    try:
        with path.open("rb") as stream:
            return from_bytes(stream.read(MOST_BYTES + 1), str(path))
    except OSError as error:
        raise EvidenceError(f"{path}: cannot be read ({error.strerror}). {GIVE}") from error


def changed_sections(found: Mapping[str, Any]) -> list[str]:
    """The sections that are not those that their digests were made of."""
    told = found["digests"] if isinstance(found["digests"], dict) else {}
    changed = [name for name in SECTIONS if told.get(name) != digest(found[name])]
    return changed + sorted(f"digests/{name}" for name in set(told) - set(SECTIONS))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def _first_difference(one: bytes, other: bytes) -> int | None:
    if one == other:
        return None
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
