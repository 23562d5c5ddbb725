"""Byte ranges of a repository's files at its commit, asked for where the Hub sends them from, each answer checked before it is believed."""

from __future__ import annotations

import re
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import errors
from huggingface_hub.utils import hf_raise_for_status, http_stream_backoff

from modelkin_indexer.hub import client as hub
from modelkin_indexer.hub.client import HubClient, Repo
from modelkin_indexer.hub.errors import CLIENT_ERRORS, HubError, hub_error
from modelkin_indexer.results.beside import SourceFile

CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
EXPIRED = (401, 403, 404, 410)  # what a signed address that has run out answers
REFUSED = (401, 403)
CHANGED = "It changed while it was read. Try again."
CLOSED = "client has been closed"  # by another thread's call that could not connect: the next call opens a new one


@dataclass(frozen=True)
class _Place:
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

    def read(self, file: SourceFile, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of a file of the repository.

        Raises:
            HubError: the Hub refuses, cannot be reached, or the file is not what the repository's description said.
        """
        if start == stop:
            return b""
        where = f"{self.repo.name}/{file.name}"
        for attempt in range(hub.TRIES):
            if attempt:
                time.sleep(hub.FIRST_WAIT * 2 ** (attempt - 1))
            try:
                return self._tried(file, start, stop)
            except _Again as error:
                last = str(error)
            except CLIENT_ERRORS as error:
                raise _refusal(error, where) from error
            except RuntimeError as error:
                if CLOSED not in str(error):
                    raise
                last = "the connection was closed"
        raise HubError(f"bytes [{start:,}, {stop:,}) do not come whole ({last})", path=where, remedy="Try again later.", passing=True)

    def _tried(self, file: SourceFile, start: int, stop: int) -> bytes:
        with self._lock:
            finding = self._finding.setdefault(file.name, threading.Lock())
        with finding:  # one thread finds out where the file is, the others wait for it
            place = self._places.get(file.name)
            if place is None:
                self.client.wait()
                return self._ask(file, None, start, stop)
        return self._ask(file, place, start, stop)

    def _ask(self, file: SourceFile, place: _Place | None, start: int, stop: int) -> bytes:
        url = self.client.resolved(self.repo, file) if place is None else place.url
        headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        if place is None or place.own:
            headers |= self.client.headers()
        if place is not None and place.etag:
            headers["If-Range"] = place.etag
        with http_stream_backoff("GET", url, headers=headers, follow_redirects=True, **hub.patience()) as response:
            with self._lock:
                self.requests += 1 + len(response.history)
            if place is not None and not place.own and response.status_code in EXPIRED:
                self._places.pop(file.name, None)
                raise _Again(f"status {response.status_code}")
            hf_raise_for_status(response)
            self._check(response, file, start, stop)
            data = _body(response, stop - start)
            found = self._place(response)
        with self._lock:
            self.bytes += len(data)
        if len(data) != stop - start:
            raise _Again(f"{len(data):,} bytes came")
        self._places[file.name] = found
        return data

    def _place(self, response: Any) -> _Place:
        url, etag = str(response.url), response.headers.get("etag", "")
        own = urlsplit(url)[:2] == urlsplit(self.client.endpoint)[:2]
        return _Place(url, "" if etag.startswith("W/") else etag, own)

    def _check(self, response: Any, file: SourceFile, start: int, stop: int) -> None:
        """That the answer is this range of the file that was announced. Raises HubError."""
        where = f"{self.repo.name}/{file.name}"
        for answer in (*response.history, response):
            commit, digest = answer.headers.get("x-repo-commit"), answer.headers.get("x-linked-etag", "").strip('"')
            if (commit and commit != self.repo.commit) or (digest and ":" not in file.digest and digest != file.digest):
                raise HubError("is not the file that the Hub announced", path=where, remedy=CHANGED, passing=True)
        if response.status_code == 200:
            length = response.headers.get("content-length")
            if start == 0 and stop == file.size and length in (None, str(file.size)):
                return
            if response.request.headers.get("if-range", response.headers.get("etag")) != response.headers.get("etag"):
                raise HubError("is another file now", path=where, remedy=CHANGED, passing=True)
            whole = start == 0 and stop == file.size
            problem = f"has {length} bytes, not {file.size:,}" if whole else "the server sends whole files where a part is asked for"
            raise HubError(problem, path=where, remedy=CHANGED if whole else "Download it with `hf download`, and give the folder.")
        said = CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        if response.status_code != 206 or said is None:
            raise HubError(f"the server answers with status {response.status_code}", path=where, remedy="Check HF_ENDPOINT.", passing=True)
        if tuple(map(int, said.groups())) != (start, stop - 1, file.size):
            problem = f"bytes {said[1]}-{said[2]} of {said[3]} came, not {start}-{stop - 1} of {file.size}"
            raise HubError(problem, path=where, remedy=CHANGED, passing=True)


def _body(response: Any, length: int) -> bytes:
    """At most `length` bytes; fewer where the connection broke."""
    data = bytearray()
    with suppress(httpx2.TransportError):
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) >= length:
                break
    return bytes(data[:length])


def _refusal(error: Exception, where: str) -> HubError:
    """What it means where the repository's description could be read before."""
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
