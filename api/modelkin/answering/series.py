"""Checkpoints said to lead from scratch to a model: which they are, and in which order."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from modelkin.answering.training_log import read_log
from modelkin.sources.naming import FINGERPRINT_SUFFIX, existing
from modelkin.sources.reading import name_of, reading_of
from modelkin.wishes import Asked, HowToRead, Listener
from modelkin_indexer.errors import NoCheckpoints
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.sources.register import weights_suffixes
from modelkin_registry.answers.trajectory import TrajectoryAnswer
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.questions import Questions
from modelkin_registry.trajectories.logs import with_log
from modelkin_registry.trajectories.trajectories import examine_series


def series_of(checkpoints: Sequence[Asked], how: HowToRead, listener: Listener) -> tuple[list[str], list[Fingerprint]]:
    """Names and fingerprints of checkpoints; of one folder alone, of those in it.

    Raises:
        NoCheckpoints: the one folder has none in it.
        SourceError: one is not there, or cannot be read; only local files are, for a series is not published checkpoint by checkpoint.
    """
    found: list[Asked] = [existing(os.fspath(one), from_hub=False) if isinstance(one, (str, os.PathLike)) else one for one in checkpoints]
    if len(found) == 1 and isinstance(found[0], Path):
        found = list(in_order(found[0]))
    return [Path(name_of(one)).name for one in found], [reading_of(one, how, listener).fingerprint for one in found]


def examined(
    registry: Questions | None, checkpoints: Sequence[Asked], log: str | os.PathLike[str] | None, how: HowToRead, listener: Listener
) -> TrajectoryAnswer:
    """A series held against a registry, where there is one, and its log, where one is given. Raises as `series_of`, and WrongLine."""
    rows = read_log(log) if log is not None else None  # a mistake in it is told before models are read
    names, series = series_of(checkpoints, how, listener)
    if registry is None:
        listener.say("There is no registry: the steps were held against no registered model.")
    answer = registry.trajectory(names, series) if registry is not None else examine_series(names, series, ALONE, [])
    if rows is None:
        return answer
    told = (series[0].about.config or {}).get("vocab_size")
    return with_log(answer, rows, told if isinstance(told, int) else None)


def in_order(folder: Path) -> list[Path]:
    """The checkpoints of a folder in natural order: its subfolders, or without any its weights files; a file is a series of one."""
    if not folder.is_dir():
        return [folder]
    inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    ends = (*weights_suffixes(), FINGERPRINT_SUFFIX)
    found = [path for path in inside if path.is_dir()] or [path for path in inside if path.name.lower().endswith(ends)]
    if not found:
        raise NoCheckpoints("has neither subfolders nor weights files in it", path=folder, remedy="Give the checkpoints one by one.")
    return sorted(found, key=_natural)


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Numbers in a name count as numbers."""
    parts = re.findall(r"\d{1,18}|\D+", path.name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
