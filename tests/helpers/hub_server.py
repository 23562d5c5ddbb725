"""A Hub on loopback for tests and benchmarks: lists, describes and serves repositories as huggingface_hub asks for them, and takes uploads.

`python tests/hub_server.py FOLDER` serves the repositories FOLDER/org/name and prints the address; `/count` tells the requests so far.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from msgspec import Struct, field

PAGE = 1000
LARGE = 64 << 20  # bytes of a file that is not taken into memory
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
APART = (".safetensors", ".gguf")  # files stored apart, whose SHA-256 the Hub tells, and whose bytes a store sends


class LocalFile:
    """A file on disk as bytes that are read when they are sent: for repositories larger than memory. Its digest is given, not computed."""

    def __init__(self, path: Path, digest: str) -> None:
        self.path, self.digest, self.size = path, digest, path.stat().st_size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self.size)
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


Content = bytes | LocalFile


def sha256(data: Content) -> str:
    return data.digest if isinstance(data, LocalFile) else hashlib.sha256(data).hexdigest()


class Repo(Struct, dict=True):
    """A repository of one commit.

    `broken` is what a request for its files gets instead: a status, or "cut", "other", "long" or "whole" content.
    """

    name: str
    files: dict[str, Content]
    number: int
    modified: datetime
    tags: list[str] = field(default_factory=list)
    downloads: int = 0
    broken: int | str = 0
    gated: bool = False

    @cached_property
    def commit(self) -> str:
        contents = sorted((name, sha256(data)) for name, data in self.files.items())
        return hashlib.sha1(repr(contents).encode()).hexdigest()

    def described(self, blobs: bool) -> dict[str, Any]:
        said: dict[str, Any] = {
            "_id": f"{self.number:024x}",
            "id": self.name,
            "sha": self.commit,
            "lastModified": self.modified.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "createdAt": FIRST.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "downloads": self.downloads,
            "tags": self.tags,
            "private": False,
            "gated": "auto" if self.gated else False,
            "disabled": False,
            "siblings": [_sibling(name, data, blobs) for name, data in sorted(self.files.items())],
        }
        return said


def _sibling(name: str, data: Content, blobs: bool) -> dict[str, Any]:
    if not blobs:
        return {"rfilename": name}
    said: dict[str, Any] = {"rfilename": name, "size": len(data)}
    if isinstance(data, bytes):
        said["blobId"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    if name.endswith(APART):
        said["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 130}
    return said


class Hub:
    """The state of a Hub, and of the store at another address that sends large files. `requests` counts by what was asked for.

    `busy` answers so many requests with 429 first. `faults` are what the next ranges get: a status, "cut", or a function to call first.
    `bandwidth` is in bytes a second, of all answers together. `hostile` are answers of other kinds, by the beginning of a path: the longest
    that fits is called with the handler instead. `told_tokens` are those that came to the store's address, which should hear none.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.datasets: dict[str, dict[str, bytes]] = {}
        self.moved: dict[str, str] = {}
        self.requests: Counter[str] = Counter()
        self.busy = 0
        self.down = False
        self.delay = 0.0
        self.bandwidth = 0.0
        self.faults: list[int | str | Callable[[], object]] = []
        self.sent = 0
        self.hostile: dict[str, Callable[[Any], object]] = {}
        self.told_tokens: set[str] = set()
        self.signature = "s1"
        self._free = 0.0
        self.lock = Lock()
        self.url = self.store = ""

    def pace(self, size: int) -> None:
        """Wait until so many bytes have passed the one line that all answers share."""
        with self.lock:
            self.sent += size
            if not self.bandwidth:
                return
            self._free = max(self._free, time.monotonic()) + size / self.bandwidth
            wait = self._free - time.monotonic()
        time.sleep(max(0.0, wait))

    def put(self, name: str, files: dict[str, bytes], **more: Any) -> Repo:
        """A new repository, or a new commit of one."""
        with self.lock:
            known = self.repos.get(name)
            number = known.number if known else len(self.repos) + len(self.moved) + 1
            modified = max((repo.modified for repo in self.repos.values()), default=FIRST) + timedelta(seconds=1)
            self.repos[name] = Repo(name, files, number, modified, **more)
            return self.repos[name]

    def rename(self, old: str, new: str) -> None:
        with self.lock:
            repo = self.repos.pop(old)
            self.moved[old], repo.name = new, new
            self.repos[new] = repo

    def is_known(self, path: str) -> bool:
        return path == "/api/models" or path.count("/") > 2

    def listed(self, query: dict[str, list[str]]) -> list[Repo]:
        author, wanted = query.get("author", [""])[0], query.get("filter", []) + query.get("pipeline_tag", [])
        found = [
            repo
            for repo in list(self.repos.values())
            if (not author or repo.name.split("/")[0] == author) and all(tag in repo.tags for tag in wanted)
        ]
        by_downloads = query.get("sort") == ["downloads"]
        return sorted(found, key=lambda repo: (repo.downloads if by_downloads else 0, repo.modified, repo.name), reverse=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        path, query = unquote(address.path), parse_qs(address.query)
        if self.headers.get("Authorization") and not self.hub.url.endswith(f":{self.server.server_address[1]}"):
            self.hub.told_tokens.add(self.headers["Authorization"])
        if fitting := [start for start in self.hub.hostile if self.path.startswith(start)]:
            self.hub.hostile[max(fitting, key=len)](self)
            return None
        if path == "/count":
            return self._json({**self.hub.requests, "bytes": self.hub.sent})
        if not self.hub.is_known(path):
            return self._say(404)  # huggingface_hub asks for things of its own
        kind = "list" if path == "/api/models" else "describe" if path.startswith("/api/models/") else "file"
        if path.startswith("/store/"):
            kind = "range"
        with self.hub.lock:
            self.hub.requests[kind] += 1
            busy = self.hub.busy > 0
            self.hub.busy -= busy
        time.sleep(self.hub.delay)
        if self.hub.down:
            return self._say(503)
        if busy:
            return self._say(429, headers={"Retry-After": "0"})
        if kind == "list":
            return self._list(query)
        parts = path.strip("/").split("/")
        if kind == "range":
            return self._stored(parts, query)
        if parts[0] == "datasets":
            return self._dataset(parts)
        if parts[:2] == ["api", "datasets"]:
            return self._describe_dataset("/".join(parts[2:4]))
        return self._describe(parts, query) if kind == "describe" else self._file(parts)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _list(self, query: dict[str, list[str]]) -> None:
        start, size = int(query.get("cursor", ["0"])[0]), min(PAGE, int(query.get("limit", [str(PAGE)])[0]))
        found = self.hub.listed(query)
        more = {}
        if start + size < len(found):
            again = urlencode({**query, "cursor": start + size}, doseq=True)
            more = {"Link": f'<{self.hub.url}/api/models?{again}>; rel="next"'}
        self._json([repo.described(False) for repo in found[start : start + size]], more)

    def _repo(self, name: str, rest: str) -> Repo | None:
        """The repository, or None after answering why not."""
        if name in self.hub.moved:
            self._say(307, headers={"Location": rest.replace(name, self.hub.moved[name], 1)})
            return None
        repo = self.hub.repos.get(name)
        if repo is None:
            self._say(401, headers={"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        return repo

    def _describe(self, parts: list[str], query: dict[str, list[str]]) -> None:
        repo = self._repo("/".join(parts[2:4]), self.path)
        if repo is None:
            return None
        if len(parts) > 5 and parts[5] not in (repo.commit, "main"):
            return self._say(404, headers={"X-Error-Code": "RevisionNotFound"})
        return self._json(repo.described("blobs" in query))

    def _file(self, parts: list[str]) -> None:
        repo = self._repo("/".join(parts[:2]), self.path)
        if repo is None:
            return None
        if repo.gated:
            return self._say(403, headers={"X-Error-Code": "GatedRepo"})
        if isinstance(repo.broken, int) and repo.broken:
            return self._say(repo.broken)
        if parts[3] not in (repo.commit, "main"):
            return self._say(404, headers={"X-Error-Code": "RevisionNotFound"})
        name = "/".join(parts[4:])
        data = repo.files.get(name)
        if data is None:
            return self._say(404, headers={"X-Error-Code": "EntryNotFound"})
        if repo.broken == "other":
            data = bytes(len(data))
        digest = sha256(repo.files[name])
        headers = {"X-Repo-Commit": repo.commit, "ETag": f'"{digest}"'}
        if name.endswith(APART) and self.hub.store:
            linked = {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(data))}
            place = f"{self.hub.store}/store/{'/'.join(parts[:2])}/{quote(name)}?signature={self.hub.signature}"
            return self._say(302, headers={**headers, **linked, "Location": place})
        return self._ranged(repo, data, headers)

    def _stored(self, parts: list[str], query: dict[str, list[str]]) -> None:
        """What the store sends: a range of a file, to whoever has the signature."""
        if query.get("signature") != [self.hub.signature]:
            return self._say(403)
        with self.hub.lock:
            fault = self.hub.faults.pop(0) if self.hub.faults else ""
        if callable(fault):
            fault()
        elif isinstance(fault, int):
            return self._say(fault, headers={"Retry-After": "0"})
        repo, name = self.hub.repos["/".join(parts[1:3])], "/".join(parts[3:])
        data = repo.files.get(name)
        if data is None:
            return self._say(404)
        headers = {"ETag": f'"{sha256(data)}"'}
        data = bytes(len(data)) if repo.broken == "other" else data
        return self._ranged(repo, data, headers, cut=fault == "cut")

    def _ranged(self, repo: Repo, data: Content, headers: dict[str, str], cut: bool = False) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        headers = {**headers, "Accept-Ranges": "bytes"}
        cut = cut or repo.broken == "cut"
        changed = self.headers.get("If-Range", headers["ETag"]) != headers["ETag"]
        if asked is None or changed or repo.broken == "whole":
            return self._say(200, data[:], headers=headers, cut=cut)
        start, stop = int(asked[1]), min(int(asked[2]) + 1, len(data))
        if start >= len(data):
            return self._say(416, headers={"Content-Range": f"bytes */{len(data)}"})
        total = len(data) + (repo.broken == "long")
        return self._say(206, data[start:stop], {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{total}"}, cut)

    # a dataset repository that takes uploads

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if fitting := [start for start in self.hub.hostile if self.path.startswith(start)]:
            self.hub.hostile[max(fitting, key=len)](self)
            return None
        if not (self.headers.get("Authorization") or "").startswith("Bearer "):
            return self._say(401, headers={"X-Error-Message": "Invalid username or password."})
        parts = urlsplit(self.path).path.strip("/").split("/")
        if parts == ["api", "repos", "create"]:
            said = json.loads(body)
            name = "/".join(filter(None, [said.get("organization"), said["name"]]))
            self.hub.datasets.setdefault(name, {})
            return self._json({"url": f"{self.hub.url}/datasets/{name}", "name": name, "id": name})
        name = "/".join(parts[2:4])
        if parts[-2] == "preupload":
            files = json.loads(body)["files"]
            return self._json({"files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in files]})
        for line in body.splitlines():
            change = json.loads(line)
            if change["key"] == "file":
                self.hub.datasets[name][change["value"]["path"]] = base64.b64decode(change["value"]["content"])
        commit = hashlib.sha1(repr(sorted(self.hub.datasets[name].items())).encode()).hexdigest()
        return self._json({"success": True, "commitUrl": f"{self.hub.url}/datasets/{name}/commit/{commit}", "commitOid": commit})

    def _dataset(self, parts: list[str]) -> None:
        files = self.hub.datasets.get("/".join(parts[1:3]))
        if files is None:
            return self._say(401, headers={"X-Error-Code": "RepoNotFound"})
        data = files.get("/".join(parts[5:]))
        if data is None:
            return self._say(404, headers={"X-Error-Code": "EntryNotFound"})
        digest = hashlib.sha1(data).hexdigest()
        return self._say(200, data, headers={"X-Repo-Commit": digest, "ETag": f'"{digest}"'})

    def _describe_dataset(self, name: str) -> None:
        files = self.hub.datasets.get(name)
        if files is None:
            return self._say(401, headers={"X-Error-Code": "RepoNotFound"})
        return self._json({"id": name, "sha": "main", "siblings": [_sibling(file, data, True) for file, data in files.items()]})

    def _json(self, value: Any, headers: dict[str, str] | None = None) -> None:
        self._say(200, json.dumps(value).encode(), headers={"Content-Type": "application/json", **(headers or {})})

    def _say(self, status: int, data: bytes = b"", headers: dict[str, str] | None = None, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.hub.pace(len(data))
            self.wfile.write(data[: len(data) // 2] if cut else data)
        self.close_connection = cut

    def log_message(self, *_: object) -> None: ...


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """A client that was killed in mid-answer is no error of the Hub."""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The Hub at `hub.url`, and its store at `hub.store`, until the block ends."""
    servers = [Server(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": hub})) for _ in range(2)]
    hub.url, hub.store = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = [Thread(target=server.serve_forever, args=(0.05,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()


def _content(file: Path, repo: str) -> Content:
    if file.stat().st_size < LARGE:
        return file.read_bytes()
    return LocalFile(file, hashlib.sha256(f"{repo}/{file.name}".encode()).hexdigest())


def main() -> None:
    folder, hub = Path(sys.argv[1]), Hub()
    hub.delay, hub.bandwidth = (float(sys.argv[at]) if len(sys.argv) > at else 0.0 for at in (2, 3))
    for place in sorted(path for path in folder.glob("*/*") if path.is_dir()):
        name = place.relative_to(folder).as_posix()
        hub.put(name, {file.name: _content(file, name) for file in sorted(place.iterdir())})
    with serving(hub):
        print(hub.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
