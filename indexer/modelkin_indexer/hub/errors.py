"""What the Hub answered, in words, and whether another try can help."""

from __future__ import annotations

import httpx2
from huggingface_hub import errors

from modelkin_indexer.errors import SourceError

REMEDIES: dict[type[Exception], tuple[str, str]] = {  # the first that fits; a gated repository is a kind of missing one to the client
    errors.GatedRepoError: ("access is gated", "Ask for access on its page, and log in with `hf auth login` or HF_TOKEN."),
    errors.DisabledRepoError: ("disabled on the Hub", "It cannot be read."),
    errors.RevisionNotFoundError: ("no such revision on the Hub", "Check the revision."),
    errors.EntryNotFoundError: ("a file of it is not on the Hub", "Try again; it may have changed while it was read."),
    errors.RepositoryNotFoundError: ("not on the Hub, or private", "Check its name, or log in with `hf auth login` or HF_TOKEN."),
    errors.OfflineModeIsEnabled: ("HF_HUB_OFFLINE forbids network access", "Unset it."),
    errors.HFValidationError: ("no name that the Hub can have", "Give org/name."),
}
GONE = (errors.RepositoryNotFoundError,)
FORBIDDEN = (401, 403)


class BadAnswer(Exception):
    """An answer that is not read further. `problem` says why; `passing`: another may be better."""

    def __init__(self, problem: str, passing: bool = False) -> None:
        super().__init__(problem)
        self.problem, self.passing = problem, passing


class Cut(httpx2.TransportError):
    """The connection broke in the middle of an answer's body."""


class HubError(SourceError):
    """The Hub refused or failed. `passing`: the same call may succeed later; `gone`: there is no such repository (any more)."""

    def __init__(self, problem: str, *, path: str, remedy: str, passing: bool = False, gone: bool = False) -> None:
        super().__init__(problem, path=path, remedy=remedy)
        self.passing, self.gone = passing, gone


def hub_error(error: Exception, repo: str) -> HubError:
    """A client's exception as what it means."""
    for kind, (problem, remedy) in REMEDIES.items():
        if isinstance(error, kind):
            is_gone = isinstance(error, GONE) and not isinstance(error, errors.GatedRepoError)
            return HubError(problem, path=repo, remedy=remedy, gone=is_gone)
    if isinstance(error, BadAnswer):
        remedy = "Try again later." if error.passing else "Nothing more of it is read. Check HF_ENDPOINT."
        return HubError(f"the Hub's answer is not taken: {error.problem}", path=repo, remedy=remedy, passing=error.passing)
    if isinstance(error, Cut):
        return HubError(f"the Hub's answer does not come whole ({_brief(error)})", path=repo, remedy="Try again later.", passing=True)
    if isinstance(error, errors.HfHubHTTPError) and error.response is not None:
        status = error.response.status_code
        remedy = "Log in with `hf auth login` or HF_TOKEN." if status in FORBIDDEN else "Try again later."
        return HubError(f"the Hub answered with status {status}", path=repo, remedy=remedy, passing=status == 429 or status >= 500)
    return HubError(f"the Hub cannot be reached ({_brief(error)})", path=repo, remedy="Check the connection and HF_ENDPOINT.", passing=True)


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


CLIENT_ERRORS = (BadAnswer, errors.HfHubHTTPError, errors.OfflineModeIsEnabled, errors.HFValidationError, httpx2.HTTPError)
