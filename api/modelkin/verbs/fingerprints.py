"""A source read, and its fingerprint as a file: no registry is asked, and nothing that one needs is imported."""

from __future__ import annotations

import os
from typing import Unpack

from modelkin.answering.writing import write_fingerprint, written_to
from modelkin.sources.reading import reading_of
from modelkin.verbs.calls import ReadingCall, how_of, listener_of
from modelkin.wishes import Asked, Reading
from modelkin_registry.answers.written import Written


def read(source: Asked, **call: Unpack[ReadingCall]) -> Reading:
    """A source as its fingerprint, with what its folder says; no registry is asked. Raises SourceError, FingerprintError."""
    return reading_of(source, how_of(call), listener_of(call))


def fingerprint(source: Asked, target: str | os.PathLike[str], **call: Unpack[ReadingCall]) -> Written:
    """Write the fingerprint of a source to a file, from which it can be queried, compared and added without the weights.

    Raises:
        ValueError: the name of `target` does not end in .modelkin.
        SourceError: nothing there, or weights that cannot be read.
        OSError: the file cannot be written.
    """
    path = written_to(target)  # a wrong name is told before the weights are read
    return write_fingerprint(read(source, **call), source, path)
