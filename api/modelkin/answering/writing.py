"""A fingerprint as a file, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from modelkin.sources.naming import FINGERPRINT_SUFFIX
from modelkin.sources.reading import name_of
from modelkin.wishes import Asked, Reading
from modelkin_registry.answers.written import Written


def written_to(file: str | os.PathLike[str]) -> Path:
    """Where a fingerprint may be written. Raises ValueError for a name that does not end as those of fingerprints do."""
    path = Path(file)
    if path.suffix != FINGERPRINT_SUFFIX:
        raise ValueError(f"{path}: the name of a fingerprint ends in {FINGERPRINT_SUFFIX}")
    return path


def write_fingerprint(reading: Reading, asked: Asked, file: Path) -> Written:
    """Write it. Raises OSError where that cannot be done."""
    data, about = reading.fingerprint.to_bytes(), reading.fingerprint.about
    unfinished = file.with_name(f".{file.name}.unfinished")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(file)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    return Written(name_of(asked), str(file), about.level, about.spec, about.key, about.parameters, about.coverage, len(data))
