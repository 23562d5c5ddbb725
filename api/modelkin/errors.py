"""Everything that the functions of `modelkin` raise on purpose, and any error as the contract tells it."""

from __future__ import annotations

from modelkin_indexer.errors import (
    DamagedFile,
    EvidenceError,
    FingerprintError,
    JournalError,
    LaunchError,
    ModelkinError,
    NameTaken,
    NoCheckpoints,
    Offline,
    OutputInside,
    RegistryError,
    ReportError,
    ServeError,
    SharedFileError,
    SourceError,
    SourceNotFound,
    UnknownModel,
    UnsupportedFormat,
    UnusableKey,
    UnusableValues,
    WrongFilter,
    WrongLine,
)
from modelkin_registry.answers.plain import CONTRACT, Plain

__all__ = [
    "DamagedFile",
    "EvidenceError",
    "Failure",
    "FingerprintError",
    "JournalError",
    "LaunchError",
    "ModelkinError",
    "NameTaken",
    "NoCheckpoints",
    "Offline",
    "OutputInside",
    "Problem",
    "RegistryError",
    "ReportError",
    "ServeError",
    "SharedFileError",
    "SourceError",
    "SourceNotFound",
    "UnknownModel",
    "UnsupportedFormat",
    "UnusableKey",
    "UnusableValues",
    "WrongFilter",
    "WrongLine",
    "problem_of",
]

UNREADABLE = ModelkinError.exit_code
FAULT = 5  # exit code of an error that nobody foresaw: a fault of modelkin, never 1, which is a verdict
OURS = "This is a fault of modelkin: --debug shows where it happened."


class Problem(Plain, frozen=True):
    """An error as JSON tells it: `code` is the exit code, `kind` its class, `message` says what is wrong, `remedy` what helps."""

    code: int
    kind: str
    message: str
    path: str | None = None
    tensor: str | None = None
    remedy: str | None = None

    @property
    def is_fault(self) -> bool:
        return self.code == FAULT

    def __str__(self) -> str:
        """The whole on one line."""
        where = "" if self.path is None else f"{self.path}: "
        tensor = "" if self.tensor is None else f"tensor {self.tensor!r}: "
        return f"{where}{tensor}{self.message}" + (f". {self.remedy}" if self.remedy else "")


class Failure(Plain, frozen=True):
    """The JSON contract's object of a call that ended with an error."""

    error: Problem
    contract: int = CONTRACT


def problem_of(error: BaseException) -> Problem:
    """What an error means for the person who asked."""
    kind = type(error).__name__
    if isinstance(error, SourceError):
        return Problem(error.exit_code, kind, error.problem, error.path, error.tensor, error.remedy)
    if isinstance(error, ModelkinError):
        return Problem(error.exit_code, kind, str(error))
    if isinstance(error, MemoryError):
        return Problem(FAULT, kind, "there is not enough memory for this", remedy="Give it more, or ask at --level probe.")
    if isinstance(error, OSError):
        path = None if error.filename is None else str(error.filename)
        return Problem(UNREADABLE, kind, error.strerror or str(error), path)
    said = str(error).strip().splitlines()
    return Problem(FAULT, kind, f"{kind}: {said[0]}" if said else kind, remedy=OURS)
