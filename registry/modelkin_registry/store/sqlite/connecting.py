"""Opening the registry's SQLite file: settings, first creation, migrations, and what can be wrong with it, in words."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from modelkin_indexer import spec
from modelkin_indexer.errors import RegistryAway, RegistryError
from modelkin_registry.store.appearing import appearing
from modelkin_registry.store.rows import checksum
from modelkin_registry.store.sqlite.marks import APPLICATION_ID, MIGRATIONS, STEPS
from modelkin_registry.store.times import now

BUSY_SECONDS = 30.0  # how long to wait for another writer before giving up
RETRY_SECONDS = 0.02  # pause between tries where SQLite itself does not wait (the switch to WAL)
PAGE_BYTES = 8192  # a bit better than 4096 for 100-kB blobs; 65536 wastes a third (infra trial)

REMEDIES = {
    sqlite3.SQLITE_BUSY: f"another process has been writing for over {BUSY_SECONDS:.0f} s. Try again when it is done",
    sqlite3.SQLITE_LOCKED: "another process holds it. Try again when it is done",
    sqlite3.SQLITE_READONLY: "it cannot be written. Check the permissions of the file and its folder, or copy it where you may write",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened. Check that its folder exists and may be written",
    sqlite3.SQLITE_PERM: "it may not be opened. Check the permissions of the file and its folder",
    sqlite3.SQLITE_FULL: "the disk is full; nothing of this change was stored. Free some space and try again",
    sqlite3.SQLITE_IOERR: "the disk gave an error. Check the disk, then run `modelkin doctor`",
    sqlite3.SQLITE_NOTADB: "it is not a registry (no SQLite file). Give the path of a registry, or of a new file",
    sqlite3.SQLITE_CORRUPT: "it is damaged. Restore it from a backup or an export; `modelkin doctor` shows what is still readable",
}


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what SQLite says about the file into a RegistryError that says what to do. Mistakes of the caller pass as they are."""
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
        raise
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the kind, the rest detail
        remedy = REMEDIES.get(code, "SQLite cannot go on. Run `modelkin doctor`")
        kind = RegistryAway if code == sqlite3.SQLITE_BUSY else RegistryError
        raise kind(f"{path}: {remedy} (SQLite: {error}).") from error


@contextmanager
def answered(path: Path) -> Iterator[None]:
    """As `explained`, around statements alone: text that SQLite cannot decode is damage too."""
    with explained(path):
        try:
            yield
        except UnicodeDecodeError as error:
            raise RegistryError(f"{path}: {REMEDIES[sqlite3.SQLITE_CORRUPT]} ({error}).") from error


def connect(path: Path, *, create: bool, key_name: str) -> sqlite3.Connection:
    """An open, current registry of this spec and key; made if missing and `create`.

    Without `create` a registry that may not be written is opened for reading: what writes to it then fails.

    Raises:
        RegistryError: not a registry, damaged, of another key or spec, written by a newer version, or out of reach.
    """
    _check_reachable(path, create)
    read_only = not create and not _may_write(path)
    mode = _read_only_mode(path) if read_only else "mode=rw"
    with answered(path):
        if create and not path.exists():
            _make(path, key_name)
        connection = _opened(path, mode)
        try:
            return _prepared_to_read(connection, path, key_name) if read_only else _prepared(connection, path, create, key_name)
        except BaseException:
            connection.close()
            raise


def _opened(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True, timeout=BUSY_SECONDS, isolation_level=None)


def _make(path: Path, key_name: str) -> None:
    """A new registry, under its name only once it is complete: a kill never leaves an empty file that readers refuse."""
    with appearing(path) as unfinished, closing(_opened(unfinished, "mode=rw")) as connection:
        _prepared(connection, path, True, key_name)


def _check_reachable(path: Path, create: bool) -> None:
    folder = path.parent
    if path.is_dir():
        raise RegistryError(f"{path}: this is a folder, a registry is one file. Give a file name, e.g. {path / 'registry.sqlite'}.")
    if not folder.is_dir():
        raise RegistryError(f"{path}: the folder {folder} does not exist. Make it first, or give another path.")
    if not path.exists() and not create:
        raise RegistryError(f"{path}: no registry there. Make one with `modelkin add SOURCE --registry {path}`, or give another path.")
    if create and not _may_write(path):
        raise RegistryError(f"{path}: {REMEDIES[sqlite3.SQLITE_READONLY]}.")
    if path.exists() and not os.access(path, os.R_OK):
        raise RegistryError(f"{path}: {REMEDIES[sqlite3.SQLITE_PERM]}.")


def _may_write(path: Path) -> bool:
    """Whether the file may be written or made. SQLite also makes files beside it."""
    return os.access(path.resolve().parent, os.W_OK) and (not path.exists() or os.access(path, os.R_OK | os.W_OK))


def _read_only_mode(path: Path) -> str:
    """How SQLite opens a file that may not be written.

    Its log and the log's shared memory are read where they are. Where they are not, SQLite would make them, which a file taken for
    immutable does without. A log without its shared memory cannot be read where that cannot be made.

    Raises:
        RegistryError: there are changes in a log that cannot be read.
    """
    log, memory = (path.resolve().with_name(path.resolve().name + ending) for ending in ("-wal", "-shm"))
    if log.exists() and memory.exists():
        return "mode=ro"
    if not log.exists() or not log.stat().st_size:
        return "mode=ro&immutable=1"
    if not os.access(log.parent, os.W_OK):
        raise RegistryError(
            f"{path}: its latest changes are in {log}, which cannot be read where nothing may be written. Run `modelkin list` once "
            "where the file and its folder may be written, or copy both files there."
        )
    return "mode=ro"


def is_read_only(connection: sqlite3.Connection) -> bool:
    """Whether `connect` opened this for reading alone."""
    return bool(_value(connection, "PRAGMA query_only"))


def _prepared_to_read(connection: sqlite3.Connection, path: Path, key_name: str) -> sqlite3.Connection:
    """As `_prepared`, but nothing is brought up to date."""
    connection.execute("PRAGMA query_only = ON")
    _set_up(connection)
    _check_not_blank(connection, path)
    _check_ours(connection, path)
    if _steps_done(connection) != STEPS:
        raise _to_be_brought_up(path)
    _check_meta(connection, path, key_name)
    if _value(connection, "SELECT spec != ? FROM meta", spec.VERSION):
        raise _to_be_brought_up(path)
    return connection


def _to_be_brought_up(path: Path) -> RegistryError:
    return RegistryError(
        f"{path}: written by an older modelkin and has to be brought up to date, but it cannot be written. Run `modelkin list` once "
        "where the file and its folder may be written, or copy it there."
    )


def _set_up(connection: sqlite3.Connection) -> None:
    """Settings of the connection; none of them changes the file."""
    connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000:.0f}")
    connection.execute("PRAGMA synchronous = FULL")  # an acknowledged model survives a power cut
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA trusted_schema = OFF")  # a registry may come from a stranger
    connection.create_function("checksum", -1, checksum, deterministic=True)


def _check_not_blank(connection: sqlite3.Connection, path: Path) -> None:
    if _is_blank(connection):
        raise RegistryError(f"{path}: an empty file. Make a registry of it with `modelkin add SOURCE --registry {path}`.")


def _prepared(connection: sqlite3.Connection, path: Path, create: bool, key_name: str) -> sqlite3.Connection:
    _set_up(connection)
    if not create:
        _check_not_blank(connection, path)
    blank = _is_blank(connection)
    if not blank:
        _check_ours(connection, path)
    _use_wal(connection)
    if blank or _steps_done(connection) != STEPS:
        _migrate(connection, path, key_name)
    _check_meta(connection, path, key_name)
    return connection


def _is_blank(connection: sqlite3.Connection) -> bool:
    return not _value(connection, "SELECT count(*) FROM sqlite_schema")


def _check_ours(connection: sqlite3.Connection, path: Path) -> None:
    if _value(connection, "PRAGMA application_id") != APPLICATION_ID:
        raise RegistryError(f"{path}: a SQLite file, but not a registry. Give the path of a registry, or of a new file.")
    if newer := [step for step in _steps_done(connection) if step not in STEPS]:
        raise RegistryError(
            f"{path}: written by a newer modelkin (unknown step {newer[0]!r}). Upgrade with `pip install --upgrade modelkin`."
        )


def _steps_done(connection: sqlite3.Connection) -> tuple[str, ...]:
    if not _value(connection, "SELECT count(*) FROM sqlite_schema WHERE name = '_sqlite_migrations'"):
        return ()
    found = connection.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = ? ORDER BY id", [MIGRATIONS])
    return tuple(name for (name,) in found)


def _use_wal(connection: sqlite3.Connection) -> None:
    """Readers beside a writer need WAL. SQLite does not wait for the lock that the switch takes, so two creators must retry."""
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # heeded by a file without pages only
    last_try = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > last_try:
                raise
            time.sleep(RETRY_SECONDS)


def _migrate(connection: sqlite3.Connection, path: Path, key_name: str) -> None:
    """All pending steps in one transaction. Another process may have done them while this one waited for the lock."""
    from modelkin_registry.store.sqlite import schema

    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _is_blank(connection):
            _check_ours(connection, path)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        schema.bring_up_to_date(connection)
        made = [os.urandom(16).hex(), spec.VERSION, key_name, now()]
        connection.execute("INSERT OR IGNORE INTO meta (id, registry, spec, key, created) VALUES (1, ?, ?, ?, ?)", made)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _check_meta(connection: sqlite3.Connection, path: Path, key_name: str) -> None:
    row = connection.execute("SELECT spec, key FROM meta").fetchone()
    if row is None:
        raise RegistryError(f"{path}: {REMEDIES[sqlite3.SQLITE_CORRUPT]}.")
    made_by, made_with = row
    if made_by not in (spec.VERSION, *spec.OLDER):
        raise RegistryError(
            f"{path}: holds fingerprints of spec {made_by!r}, this version reads {spec.VERSION!r}. "
            "Upgrade with `pip install --upgrade modelkin`."
        )
    if made_with != key_name:
        raise RegistryError(
            f"{path}: made with key {made_with!r}, opened with {key_name!r}. Give the registry's own key, or another registry; "
            f"`modelkin refresh {path} KEY_FILE --registry {path}` keeps its models under that key too."
        )


def _value(connection: sqlite3.Connection, statement: str, *values: str) -> int:
    return int(connection.execute(statement, values).fetchone()[0])
