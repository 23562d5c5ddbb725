"""Byte ranges of a repository's files at its commit, asked for where the Hub sends them from, each answer checked before it is believed."""

from __future__ import annotations

import re
import threading
import time

from huggingface_hub import errors
from msgspec import Struct

from modelkin_indexer.hub import client as hub
from modelkin_indexer.hub import limits
from modelkin_indexer.hub.client import HubClient
from modelkin_indexer.hub.described import Repo
from modelkin_indexer.hub.errors import CLIENT_ERRORS, Cut, HubError, hub_error
from modelkin_indexer.hub.exchange import Answer, address, origin
from modelkin_indexer.results.beside import SourceFile

CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")
EXPIRED = (401, 403, 404, 410)  # what a signed address that has run out answers
REFUSED = (401, 403)
CHANGED = "It changed while it was read. Try again."


class _Place(Struct, frozen=True):
    """Where a file's bytes come from. `own`: from the Hub itself, which may see the token; else a store with a signed address."""

    url: str
    etag: str
    own: bool


class _Again(Exception):
    """The same range may come if it is asked for again."""


class RangeReader:
    """Ranges of one repository. Several threads may read at once. `requests` and `bytes` count what was asked for and what came."""

    def __init__(self, client: HubClient, repo: Repo) -> None:
        self.client, self.repo = client, repo
        self.requests = self.bytes = 0
        self._places: dict[str, _Place] = {}
        self._lock = threading.Lock()
        self._finding: dict[str, threading.Lock] = {}

    def read(self, file: SourceFile, start: int, stop: int) -> bytearray:
        """Bytes [start, stop) of a file of the repository.

        Raises:
            HubError: the Hub refuses, cannot be reached, or the file is not what the repository's description said.
        """
        if start == stop:
            return bytearray()
        where, ends = f"{self.repo.name}/{file.name}", time.monotonic() + limits.deadline(stop - start)
        last = "in time"
        for attempt in range(hub.TRIES):
            if attempt:
                time.sleep(hub.FIRST_WAIT * 2 ** (attempt - 1))
            if (left := ends - time.monotonic()) <= 0:
                break
            try:
                return self._tried(file, start, stop, left)
            except _Again as error:
                last = str(error)
            except CLIENT_ERRORS as error:
                raise _refusal(error, where) from error
        raise _not_whole(f"bytes [{start:,}, {stop:,}) do not come whole ({last})", where)

    def _tried(self, file: SourceFile, start: int, stop: int, seconds: float) -> bytearray:
        with self._lock:
            finding = self._finding.setdefault(file.name, threading.Lock())
        with finding:  # one thread finds out where the file is, the others wait for it
            place = self._places.get(file.name)
            if place is None:
                self.client.wait()
                return self._ask(file, None, start, stop, seconds)
        return self._ask(file, place, start, stop, seconds)

    def _ask(self, file: SourceFile, place: _Place | None, start: int, stop: int, seconds: float) -> bytearray:
        url = self.client.resolved(self.repo, file) if place is None else place.url
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        if place is not None and place.etag:
            headers["If-Range"] = place.etag
        answer = self.client.ask(url, stop - start, seconds, headers)
        with self._lock:
            self.requests += 1 + len(answer.hops)
            self.bytes += answer.size
        if place is not None and not place.own and answer.status in EXPIRED:
            self._places.pop(file.name, None)
            raise _Again(f"status {answer.status}")
        hub.raise_for(answer)
        self._check(answer, file, start, stop, headers.get("If-Range"))
        if answer.over:
            raise HubError("more bytes came than were asked for", path=f"{self.repo.name}/{file.name}", remedy=CHANGED, passing=True)
        if answer.size != stop - start:
            raise _Again(f"{answer.size:,} bytes came")
        self._places[file.name] = self._place(answer)
        return answer.data

    def _place(self, answer: Answer) -> _Place:
        etag = answer.headers.get("etag", "")
        own = origin(address(answer.url)) == origin(address(self.client.endpoint))
        return _Place(answer.url, "" if etag.startswith("W/") else etag, own)

    def _check(self, answer: Answer, file: SourceFile, start: int, stop: int, asked_etag: str | None) -> None:
        """That the answer is this range of the file that was announced. Raises HubError."""
        where = f"{self.repo.name}/{file.name}"
        for headers in (*answer.hops, answer.headers):
            commit, digest = headers.get("x-repo-commit"), headers.get("x-linked-etag", "").strip('"')
            if (commit and commit != self.repo.commit) or (digest and ":" not in file.digest and digest != file.digest):
                raise HubError("is not the file that the Hub announced", path=where, remedy=CHANGED, passing=True)
        if answer.status == 200:
            length = answer.headers.get("content-length")
            if start == 0 and stop == file.size and length in (None, str(file.size)):
                return
            if asked_etag is not None and asked_etag != answer.headers.get("etag"):
                raise HubError("is another file now", path=where, remedy=CHANGED, passing=True)
            whole = start == 0 and stop == file.size
            problem = f"has {length} bytes, not {file.size:,}" if whole else "the server sends whole files where a part is asked for"
            raise HubError(problem, path=where, remedy=CHANGED if whole else "Download it with `hf download`, and give the folder.")
        said = CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
        if answer.status != 206 or said is None:
            raise HubError(f"the server answers with status {answer.status}", path=where, remedy="Check HF_ENDPOINT.", passing=True)
        if tuple(map(int, said.groups())) != (start, stop - 1, file.size):
            problem = f"bytes {said[1]}-{said[2]} of {said[3]} came, not {start}-{stop - 1} of {file.size}"
            raise HubError(problem, path=where, remedy=CHANGED, passing=True)


def _not_whole(problem: str, where: str) -> HubError:
    return HubError(problem, path=where, remedy="Try again later.", passing=True)


def _refusal(error: Exception, where: str) -> HubError:
    """What it means where the repository's description could be read before."""
    if isinstance(error, Cut):
        return _not_whole(f"its bytes do not come whole ({error})", where)
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) and error.response is not None else 0
    if isinstance(error, (errors.GatedRepoError, errors.DisabledRepoError)):
        return hub_error(error, where)
    if isinstance(error, (errors.RevisionNotFoundError, errors.EntryNotFoundError)):
        return HubError("is not there any more", path=where, remedy=CHANGED, passing=True)
    if status in REFUSED:
        remedy = "The token may have expired, or access was withdrawn: log in with `hf auth login` or HF_TOKEN."
        return HubError(f"may not be read (status {status})", path=where, remedy=remedy)
    if status == 416:
        return HubError("is shorter than the Hub announced", path=where, remedy=CHANGED, passing=True)
    return hub_error(error, where)
