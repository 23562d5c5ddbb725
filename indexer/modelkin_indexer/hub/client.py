"""Calls to a Hub through huggingface_hub: pinned revisions, patience with a busy server, lengths and digests checked."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from huggingface_hub import HfApi, constants
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_backoff, http_stream_backoff, paginate, validate_repo_id

from modelkin_indexer.hub.errors import CLIENT_ERRORS, HubError, hub_error
from modelkin_indexer.results.beside import SourceFile

TIMEOUT = 30.0  # seconds without a byte; the client itself would wait for ever
RATE = 10.0  # requests a second; what an account may do is more, what a visitor may do the server says by status 429
BURST = 50  # requests at once before the rate holds: one repository's small files need not wait for each other
FIRST_WAIT = 1.0  # seconds before the second try of a call; each further one waits twice as long
TRIES = 5  # of one call: waits of 1, 2, 4, 8 s, or what the server's Retry-After says
PAGE = 1000  # repositories listed at once, the most that the Hub gives
CHUNK = 1 << 20  # bytes
FIELDS = ("sha", "lastModified", "downloads", "tags", "pipeline_tag", "library_name", "usedStorage", "gated", "disabled")


@dataclass(frozen=True)
class Repo:
    """A repository as the Hub describes it. `hub_id` stays when it is renamed; `files` are known only where they were asked for.

    `modified` is ISO 8601, UTC; `digest` of a file is its SHA-256 where it is stored apart (LFS), else its git blob id with "git:" before.
    """

    name: str
    hub_id: str
    commit: str
    modified: str
    downloads: int
    stored: int | None
    files: tuple[SourceFile, ...] = ()
    about: Mapping[str, Any] | None = None


class HubClient:
    """One Hub. May be used by several threads."""

    def __init__(self, endpoint: str | None = None, token: str | None = None, rate: float = RATE) -> None:
        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self._token, self._pause, self._next = token, 1 / rate, 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Keep to the rate, but for a first burst."""
        with self._lock:
            now = time.monotonic()
            self._next = max(now - BURST * self._pause, self._next) + self._pause
            wait = self._next - self._pause - now
        time.sleep(max(0.0, wait))

    def repos(self, **wanted: Any) -> Iterator[Repo]:
        """Repositories by the Hub's own filters (author, pipeline_tag, filter, sort), a page at a time. Raises HubError."""
        parameters = {"limit": PAGE, "expand": list(FIELDS), **{name: value for name, value in wanted.items() if value}}
        found = paginate(f"{self.endpoint}/api/models", params=parameters, headers=self.headers(), timeout=TIMEOUT)
        try:
            for item in found:
                yield _repo(item)
        except CLIENT_ERRORS as error:
            raise hub_error(error, self.endpoint) from error
        except (ValueError, TypeError, LookupError) as error:
            raise HubError(f"its answer is no list of models ({error})", path=self.endpoint, remedy="Check HF_ENDPOINT.") from error

    def repo(self, name: str, revision: str | None = None) -> Repo:
        """One repository with its files, at its newest commit or a revision. A former name leads to the present one. Raises HubError."""
        try:
            validate_repo_id(name)
            at = f"/revision/{quote(revision, safe='')}" if revision else ""
            url = f"{self.endpoint}/api/models/{name}{at}"
            answer = self._get(url, params={"blobs": True})
            return _repo(answer)
        except CLIENT_ERRORS as error:
            raise hub_error(error, name) from error
        except (ValueError, TypeError, LookupError) as error:
            raise HubError(f"the Hub's answer cannot be read ({error})", path=name, remedy="Try again later.", passing=True) from error

    def _get(self, url: str, params: Mapping[str, Any]) -> Any:
        self.wait()
        response = http_backoff("GET", url, params=params, **self._how())
        hf_raise_for_status(response)
        return response.json()

    def push(self, dataset: str, file: Path, name: str, *, private: bool) -> str:
        """Upload a file into a dataset repository, made if it is not there. Returns the commit. Raises HubError."""
        api = HfApi(endpoint=self.endpoint, token=self._token, library_name="modelkin")
        try:
            api.create_repo(dataset, repo_type="dataset", private=private, exist_ok=True)
            done = api.upload_file(path_or_fileobj=file, path_in_repo=name, repo_id=dataset, repo_type="dataset")
        except CLIENT_ERRORS as error:
            raise hub_error(error, dataset) from error
        return str(done.oid)

    def pull(self, dataset: str, revision: str, name: str, target: Path) -> int:
        """Bring a file of a dataset repository. What is in it has to check itself. Returns its bytes. Raises HubError."""
        url = f"{self.endpoint}/datasets/{dataset}/resolve/{quote(revision, safe='')}/{quote(name)}"
        size = 0
        try:
            validate_repo_id(dataset)
            with http_stream_backoff("GET", url, **self._how()) as response, target.open("wb") as out:
                hf_raise_for_status(response)
                for chunk in response.iter_bytes(CHUNK):
                    size += out.write(chunk)
        except CLIENT_ERRORS as error:
            raise hub_error(error, dataset) from error
        return size

    def resolved(self, repo: Repo, file: SourceFile) -> str:
        """The address of a file at the repository's commit."""
        return f"{self.endpoint}/{repo.name}/resolve/{repo.commit}/{quote(file.name)}"

    def headers(self) -> dict[str, str]:
        """Of every request that goes to this Hub itself: they hold the user's token."""
        return build_hf_headers(token=self._token, library_name="modelkin")

    def _how(self) -> dict[str, Any]:
        """What holds for every call."""
        return {"headers": self.headers(), "follow_redirects": True, **patience()}


def patience() -> dict[str, Any]:
    """How often and how long a busy or silent server is tried."""
    return {"timeout": TIMEOUT, "max_retries": TRIES, "base_wait_time": FIRST_WAIT}


def _repo(answer: Mapping[str, Any]) -> Repo:
    """Raises LookupError, TypeError, ValueError where the answer lacks what every answer has."""
    storage = answer.get("usedStorage")
    return Repo(
        name=str(answer["id"]),
        hub_id=str(answer.get("_id", "")),
        commit=str(answer["sha"]),
        modified=str(answer["lastModified"]),
        downloads=int(answer.get("downloads") or 0),
        stored=None if storage is None else int(storage),
        files=tuple(map(_file, answer.get("siblings") or ())),
        about=answer,
    )


def _file(said: Mapping[str, Any]) -> SourceFile:
    apart = said.get("lfs") or {}
    digest = apart.get("sha256") or f"git:{said.get('blobId', '')}"
    return SourceFile(str(said["rfilename"]), int(apart.get("size", said.get("size") or 0)), str(digest))
