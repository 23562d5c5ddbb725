"""Calls to a Hub through huggingface_hub: pinned revisions, patience with a busy server, lengths and digests checked, bounded answers."""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import httpx2
from huggingface_hub import HfApi, constants, errors
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, validate_repo_id

from modelkin_indexer.hub import limits
from modelkin_indexer.hub.budget import Budget
from modelkin_indexer.hub.described import Repo, Unreadable, files_of, page_of, repo_of
from modelkin_indexer.hub.errors import CLIENT_ERRORS, BadAnswer, Cut, HubError, hub_error
from modelkin_indexer.hub.exchange import Answer, Call, address, bounded, exchange, joined, origin
from modelkin_indexer.results.beside import SourceFile

RATE = 10.0  # requests a second; what an account may do is more, what a visitor may do the server says by status 429
BURST = 50  # requests at once before the rate holds: one repository's small files need not wait for each other
FIRST_WAIT = 1.0  # seconds before the second try of a call; each further one waits twice as long
TRIES = 5  # of one call: waits of 1, 2, 4, 8 s, or what the server's Retry-After says
PAGE = 1000  # repositories listed at once, the most that the Hub gives
FIELDS = ("sha", "lastModified", "downloads", "tags", "pipeline_tag", "library_name", "usedStorage", "gated", "disabled")
UPLOAD_CALLS = 4  # beside that of the file itself: the repository made, the way told, the upload prepared and committed
BUSY = (408, 429, 500, 502, 503, 504)  # statuses after which the same call may succeed
PASSING = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError, Cut)
UNLISTED = (401, 404)  # of a description that is not there: then its files are not there either, or this is a mirror of files alone
ERROR_HEADERS = ("X-Error-Code", "X-Error-Message")  # what huggingface_hub tells a refusal's kind by
SECONDS = re.compile(r"\d{1,9}")
LIMITED = re.compile(r";\s*r\s*=\s*0+\s*;\s*t\s*=\s*(\d{1,9})(?!\d)")  # header RateLimit: none remaining, and seconds until there are


class HubClient:
    """One Hub. May be used by several threads. `in_flight` bounds the bytes of files that they have in memory at once."""

    def __init__(self, endpoint: str | None = None, token: str | None = None, rate: float = RATE) -> None:
        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self._token, self._pause, self._next = token, 1 / rate, 0.0
        self._lock = threading.Lock()
        self.in_flight = Budget(limits.IN_FLIGHT)

    def wait(self) -> None:
        """Keep to the rate, but for a first burst."""
        with self._lock:
            now = time.monotonic()
            self._next = max(now - BURST * self._pause, self._next) + self._pause
            wait = self._next - self._pause - now
        time.sleep(max(0.0, wait))

    def repos(self, **wanted: Any) -> Iterator[Repo | Unreadable]:
        """Repositories by the Hub's own filters (author, pipeline_tag, filter, sort), a page at a time; entries that are none, by name.

        Raises:
            HubError: the Hub refuses, cannot be reached, or gives no list of models that ends.
        """
        try:
            yield from self._listed({"limit": PAGE, "expand": list(FIELDS), **{name: value for name, value in wanted.items() if value}})
        except CLIENT_ERRORS as error:
            raise hub_error(error, self.endpoint) from error
        except ValueError as error:
            raise HubError(f"its answer is no list of models ({error})", path=self.endpoint, remedy="Check HF_ENDPOINT.") from error

    def _listed(self, parameters: Mapping[str, Any]) -> Iterator[Repo | Unreadable]:
        """Page after page. Addresses and pages that came before end it, and so does a list that brings too little for its time."""
        url: str | None = str(httpx2.URL(f"{self.endpoint}/api/models", params=parameters))
        seen: set[bytes] = set()
        listed = unreadable = thin = 0
        left = limits.DEADLINE
        for number in range(1, limits.PAGES + 1):
            assert url is not None
            self.wait()
            began = time.monotonic()
            answer = self.described(url, min(left, limits.DEADLINE))
            page = page_of(answer.data, number)
            marks = {_mark(url.encode()), _mark(answer.data)}
            if marks & seen:
                raise BadAnswer(f"its list comes back to what came before, on page {number}")
            seen |= marks
            listed, unreadable = listed + len(page), unreadable + sum(isinstance(one, Unreadable) for one in page)
            if unreadable > max(limits.MALFORMED, listed // 10):
                raise BadAnswer(f"{unreadable:,} of the {listed:,} entries of its list are no repositories")
            left += len(page) * limits.LISTED - (time.monotonic() - began)
            yield from page
            url = self._next_page(answer)
            if not page or url is None:
                return
            thin += len(page) < PAGE / 10
            if thin > limits.THIN:
                raise BadAnswer(f"its list brought {listed:,} repositories in {number:,} pages and goes on")
            if left <= 0:
                took = limits.DEADLINE + listed * limits.LISTED
                raise BadAnswer(f"its list brought {listed:,} repositories in {took:,.0f} s", passing=True)
        raise BadAnswer(f"its list has more than {limits.PAGES:,} pages")

    def _next_page(self, answer: Answer) -> str | None:
        """Where the list goes on, if it does: only ever at the Hub's own origin. Raises BadAnswer."""
        link = answer.headers.get("link", "")
        if len(link) > limits.LINK:
            raise BadAnswer("the address of its next page is too long")
        said = httpx2.Response(answer.status, headers={"link": link}).links.get("next", {}).get("url")
        if said is None:
            return None
        url = joined(address(answer.url), said)
        if origin(url) != origin(address(self.endpoint)):
            raise BadAnswer(f"its list goes on elsewhere, at {str(url)[:80]!r}")
        return str(url)

    def repo(self, name: str, revision: str | None = None) -> Repo:
        """One repository with its files, at its newest commit or a revision. A former name leads to the present one. Raises HubError."""
        try:
            validate_repo_id(name)
            at = f"/revision/{quote(revision, safe='')}" if revision else ""
            self.wait()
            return repo_of(self.described(f"{self.endpoint}/api/models/{name}{at}?blobs=true").data)
        except CLIENT_ERRORS as error:
            raise hub_error(error, name) from error
        except ValueError as error:
            raise _not_read(error, name) from error

    def described(self, url: str, seconds: float | None = None) -> Answer:
        """An answer in JSON, whole. Raises CLIENT_ERRORS."""
        answer = self.ask(url, limits.BODY, seconds or limits.DEADLINE, packed=True)
        raise_for(answer)
        if answer.over:
            raise BadAnswer(f"it is longer than {limits.BODY:,} bytes")
        return answer

    def ask(
        self,
        url: str,
        most: int,
        seconds: float,
        headers: Mapping[str, str] | None = None,
        packed: bool = False,
        into: BinaryIO | None = None,
    ) -> Answer:
        """One call, tried again while the server is busy or silent, in so many seconds and the waits that the server asks for.

        Raises:
            BadAnswer, httpx2.TransportError, HfHubHTTPError: there was no answer, or the server stayed busy. Other statuses are answers.
        """
        if constants.is_offline_mode():
            raise errors.OfflineModeIsEnabled(f"{url} may not be asked.")
        call = Call(url, self.endpoint, self.headers(), most, headers or {}, packed, into)
        began, patience = time.monotonic(), limits.PATIENCE
        ends = began + seconds
        for attempt in range(TRIES):
            answer: Answer | None = None
            try:
                answer = exchange(call, ends - time.monotonic())
                if answer.status not in BUSY:
                    return answer
            except PASSING as error:
                failure: Exception = error
            except TimeoutError as error:
                raise BadAnswer(f"it had not ended after {ends - began:,.0f} s", passing=True) from error
            pause, asked = FIRST_WAIT * 2**attempt, _asked_to_wait(answer)
            patience, ends = patience - asked, ends + asked
            if patience < 0:
                raise BadAnswer(f"it is busy for another {asked} s", passing=True)
            if attempt == TRIES - 1 or time.monotonic() + max(pause, asked) >= ends:
                break
            time.sleep(max(pause, asked))
        if answer is None:
            raise failure
        raise_for(answer)
        raise BadAnswer(f"its status is {answer.status}", passing=True)

    def push(self, dataset: str, file: Path, name: str, *, private: bool) -> str:
        """Upload a file into a dataset repository, made if it is not there. Returns the commit. Raises HubError."""
        api = HfApi(endpoint=self.endpoint, token=self._token, library_name="modelkin")

        def upload() -> str:
            api.create_repo(dataset, repo_type="dataset", private=private, exist_ok=True)
            return str(api.upload_file(path_or_fileobj=file, path_in_repo=name, repo_id=dataset, repo_type="dataset").oid)

        try:
            return bounded(upload, UPLOAD_CALLS * limits.DEADLINE + limits.deadline(file.stat().st_size))
        except CLIENT_ERRORS as error:
            raise hub_error(error, dataset) from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:  # huggingface_hub trusts the shape of an answer
            raise _not_read(error, dataset) from error

    def pull(self, dataset: str, revision: str, name: str, target: Path) -> int:
        """Bring a file of a dataset repository, no longer than was said. What is in it has to check itself. Returns its bytes.

        Raises:
            HubError: the Hub refuses, cannot be reached, or sends another length than it said; then nothing is left at `target`.
        """
        try:
            validate_repo_id(dataset)
            url, size = self._announced(dataset, revision, name)
            if size > (room := shutil.disk_usage(target.parent).free):
                raise BadAnswer(f"{name} has {size:,} bytes, and there is room for {room:,}")
            with target.open("wb") as out:
                answer = self.ask(url, size, limits.deadline(size), into=out)
            raise_for(answer)
            if answer.over or answer.size != size:
                than = "more" if answer.over else "fewer"
                raise BadAnswer(f"{name} has {than} bytes than the {size:,} that were announced", passing=True)
        except BaseException as error:
            target.unlink(missing_ok=True)
            if isinstance(error, (*CLIENT_ERRORS, ValueError)):
                raise (_not_read if isinstance(error, ValueError) else hub_error)(error, dataset) from error
            raise
        return answer.size

    def _announced(self, dataset: str, revision: str, name: str) -> tuple[str, int]:
        """Address and bytes of a dataset's file by its listing; a mirror that lists none says it in its headers. Raises CLIENT_ERRORS."""
        at = f"{self.endpoint}/datasets/{dataset}/resolve/"
        try:
            answer = self.described(f"{self.endpoint}/api/datasets/{dataset}/revision/{quote(revision, safe='')}?blobs=true")
            commit, files = files_of(answer.data)
            size = {file.name: file.size for file in files}.get(name)
            if size is not None:
                return f"{at}{quote(commit, safe='')}/{quote(name)}", size
        except errors.HfHubHTTPError as error:
            if error.response.status_code not in UNLISTED:
                raise
        url = f"{at}{quote(revision, safe='')}/{quote(name)}"
        answer = self.ask(url, 0, limits.DEADLINE)
        raise_for(answer)
        said = [headers.get(where, "") for headers in (*answer.hops, answer.headers) for where in ("x-linked-size", "content-length")]
        sizes = [int(one) for one in said[::2] + said[-1:] if one.isascii() and one.isdecimal() and len(one) < 19]
        if not sizes:
            raise BadAnswer(f"it does not say how long {name} is")
        return url, sizes[0]

    def resolved(self, repo: Repo, file: SourceFile) -> str:
        """The address of a file at the repository's commit."""
        return f"{self.endpoint}/{repo.name}/resolve/{quote(repo.commit, safe='')}/{quote(file.name)}"

    def headers(self) -> dict[str, str]:
        """Of every request that goes to this Hub itself: they hold the user's token."""
        return build_hf_headers(token=self._token, library_name="modelkin")


def raise_for(answer: Answer) -> None:
    """The error that a refusal stands for, by its status and headers alone: its body is a stranger's. Raises HfHubHTTPError."""
    if answer.status >= 400:
        said = {name: answer.headers[name].encode("ascii", "replace").decode() for name in ERROR_HEADERS if name in answer.headers}
        request = httpx2.Request("GET", answer.url)
        hf_raise_for_status(httpx2.Response(answer.status, headers=said, content=b"", request=request))


def _not_read(error: Exception, name: str) -> HubError:
    return HubError(f"the Hub's answer cannot be read ({error})", path=name, remedy="Try again later.", passing=True)


def _asked_to_wait(answer: Answer | None) -> int:
    """Seconds that a busy server asks for, 0 where it does not say."""
    if answer is None:
        return 0
    if found := LIMITED.search(answer.headers.get("ratelimit", "")):
        return int(found[1])
    after = answer.headers.get("retry-after", "").strip()
    return int(after) if SECONDS.fullmatch(after) else 0


def _mark(data: bytes | bytearray) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
