"""What a request is refused with: the number of HTTP, and the contract's object of an error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from modelkin.errors import Problem, problem_of
from modelkin.serving.working.workers import Busy
from modelkin_indexer.errors import FingerprintError, ModelkinError, NameTaken, RegistryError, SourceError, SourceNotFound, UnknownModel

USAGE = 2
SECONDS_AGAIN = 5  # after which somebody who was told that there is too much to do may try again
# The first that an error is one of counts.
NUMBERS: tuple[tuple[type[Exception], int], ...] = (
    (UnknownModel, 404),
    (SourceNotFound, 404),
    (NameTaken, 409),
    (RegistryError, 503),
    (FingerprintError, 422),
    (SourceError, 422),
    (ModelkinError, 422),
    (ValueError, 400),
)


class Refusal(Exception):
    """A request that is not done. `number` is that of HTTP; `kind` says in a word why, and `remedy` what helps."""

    def __init__(self, number: int, kind: str, message: str, remedy: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.number, self.kind, self.message, self.remedy, self.headers = number, kind, message, remedy, dict(headers or {})


def told(error: Exception, registry: str) -> tuple[int, Problem, dict[str, str]]:
    """The number, the problem and further headers of an error. Where the `registry` of that name lies is nobody's business."""
    if isinstance(error, Refusal):
        return error.number, Problem(USAGE, error.kind, error.message, remedy=error.remedy or None), error.headers
    if isinstance(error, Busy):
        problem = Problem(USAGE, "Busy", "more is being asked than this machine can answer", remedy="Try again in a few seconds.")
        return 503, problem, {"Retry-After": str(SECONDS_AGAIN)}
    number = next((number for kind, number in NUMBERS if isinstance(error, kind)), 500)
    if isinstance(error, ValueError):
        return number, Problem(USAGE, "UsageError", str(error)), {}
    problem = problem_of(error)
    if number == 500:
        return number, Problem(problem.code, problem.kind, "something went wrong here that nobody foresaw"), {}
    where = None if problem.path is None else Path(problem.path).name
    message = problem.message.replace(registry, "the registry" if "://" in registry else Path(registry).name)
    return number, Problem(problem.code, problem.kind, message, where, problem.tensor, problem.remedy), {}
