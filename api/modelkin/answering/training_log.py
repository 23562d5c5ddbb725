"""A training log: CSV with a head, JSON lines, or event files of TensorBoard, as trainers write them."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelkin_indexer.errors import SourceNotFound, WrongLine
from modelkin_registry.trajectories.logs import Logged

# Names of columns and tags that trainers use, in small letters; the first that is there counts. In a chart that W&B exports the name of the
# run and a dash stand before them.
STEPS = ("step", "global_step", "train/global_step", "trainer/global_step", "_step", "iteration", "iter")
LOSSES = (
    "loss", "train_loss", "train/loss", "loss/train", "train_loss_step", "train/loss_step", "lm loss", "reduced_train_loss",
    "loss_metrics/global_avg_loss",
)  # fmt: skip
RATES = ("learning_rate", "lr", "train/learning_rate", "train/lr", "learning-rate", "lr-adamw", "lr-adam", "lr-sgd")
RUN = " - "  # between a run's name and a column's
MARK = ".tfevents."  # stands in the name of every event file of TensorBoard; those of one run lie in one folder, by the time of their begin
GIVE = "Give a log as CSV or JSON lines, or TensorBoard's event files."
MOST_BYTES = 256 << 20  # of a log: two million rows of a hundred bytes; more is none of one run
LARGEST_STEP = 10**15  # beyond it a float no longer counts one by one


def read_log(file: str | os.PathLike[str]) -> list[Logged]:
    """The rows that tell a step, in the log's order.

    Raises:
        SourceNotFound: it is not there, or cannot be read.
        WrongLine: it has a mistake, with its line; of event files, whose rows are their steps, with the row.
        DamagedFile: an event file is none, or was changed.
    """
    path = Path(file)
    rows = _events(path) if MARK in path.name or path.is_dir() else _lines(path)
    found = [row for line, told in rows if (row := _row(path, line, _named(path, line, told))) is not None]
    if not found:
        raise WrongLine(path, 1, f"no row has a step: a column is named {', '.join(STEPS)}")
    return found


def _events(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    from modelkin.answering.event_file import read_events  # brings protobuf

    files = sorted(one for one in path.iterdir() if MARK in one.name and one.is_file()) if path.is_dir() else [path]
    if not files:
        raise SourceNotFound("holds no event file", path=path, remedy=GIVE)
    yield from enumerate(read_events(files), 1)


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        with path.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise SourceNotFound(f"cannot be read ({error.strerror})", path=path, remedy=GIVE) from error
    if len(data) > MOST_BYTES:
        raise WrongLine(path, 1, f"the log has more than {MOST_BYTES >> 20} MB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WrongLine(path, data[: error.start].count(b"\n") + 1, "is not UTF-8") from error
    yield from _json_rows(path, text) if text.lstrip().startswith("{") else _csv_rows(path, text)


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, words in enumerate(text.split("\n"), 1):
        if not words.strip():
            continue
        try:
            told = json.loads(words)
        except (ValueError, RecursionError) as error:
            raise WrongLine(path, line, "is no JSON") from error
        if not isinstance(told, dict):
            raise WrongLine(path, line, "is no JSON object")
        yield line, told


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        for told in reader:
            yield reader.line_num, told
    except csv.Error as error:
        raise WrongLine(path, reader.line_num, str(error)) from error


def _named(path: Path, line: int, told: Mapping[str, Any]) -> dict[str, Any]:
    """A row by the plain names of its columns. Raises WrongLine for the log of two runs."""
    found: dict[str, Any] = {}
    for name, value in told.items():
        plain = str(name).rpartition(RUN)[2].casefold()
        if plain in found and plain in (*STEPS, *LOSSES, *RATES):
            raise WrongLine(path, line, f"two columns tell {plain!r}: give the log of one run")
        found[plain] = value
    return found


def _row(path: Path, line: int, told: Mapping[str, Any]) -> Logged | None:
    """A row; None of one that tells no step, as rows of an evaluation may."""
    step = _number(path, line, told, STEPS)
    if step is None:
        return None
    if step != int(step) or not 0 <= step <= LARGEST_STEP:
        raise WrongLine(path, line, f"step {step:g}: it is a whole number from 0")
    rate = _number(path, line, told, RATES)
    if rate is not None and rate < 0:
        raise WrongLine(path, line, f"learning rate {rate:g}: it is not below 0")
    return Logged(int(step), _number(path, line, told, LOSSES), rate)


def _number(path: Path, line: int, told: Mapping[str, Any], names: tuple[str, ...]) -> float | None:
    """The number of the first column that has one; None where none does, or where it is not finite, as a diverged run writes."""
    for name in names:
        value = told.get(name)
        if value is None or value == "":
            continue
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise WrongLine(path, line, f"{name}: {str(value)[:40]!r} is no number") from error
        return number if math.isfinite(number) else None
    return None
