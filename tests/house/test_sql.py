"""SQL lies in the store alone: another engine must be a matter of one folder."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from benchmarks.house import rooms

STORE = rooms.ROOT / "registry" / "modelkin_registry" / "store"
ENGINES = ("sqlite", "postgres")
SQL = re.compile(r"\b(SELECT\s|INSERT\s+(OR\s+\w+\s+)?INTO|UPDATE\s+\S+\s+SET|DELETE\s+FROM|(CREATE|ALTER)\s+TABLE|PRAGMA\s|BEGIN\b)")
FILES = sorted(path for part in rooms.PARTS for path in (rooms.ROOT / part).rglob("*.py"))


def speaks_sql(source: str) -> Iterator[str]:
    """What a file has of SQL: statements in strings, the engine's module, somebody's connection."""
    tree = ast.parse(source)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose and SQL.search(node.value):
            yield node.value
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (name for name in names if name.split(".")[0] in ("sqlite3", "sqlite_utils", "psycopg"))
        elif isinstance(node, ast.Attribute) and node.attr == "connection":
            yield ast.unparse(node)


def test_sql_is_spoken_in_the_store_alone() -> None:
    outside = {path: found for path in FILES if STORE not in path.parents and (found := list(speaks_sql(path.read_text("utf-8"))))}
    assert outside == {}


@pytest.mark.parametrize("engine", ENGINES)
def test_only_the_way_in_names_an_engine(engine: str) -> None:
    """Everything else takes the protocol; what engines share lies in store/sql."""
    naming = {
        path.relative_to(STORE.parent).as_posix()
        for path in FILES
        if STORE / engine not in path.parents and any(name.startswith(f"modelkin_registry.store.{engine}") for name in rooms.imported(path))
    }
    assert naming == {"store/opening.py"}


@pytest.mark.parametrize(
    "line",
    [
        "x = f'SELECT {a} FROM b'",
        "x = 'DELETE FROM b'",
        "x = 'UPDATE b SET c = 1'",
        "import sqlite3",
        "import psycopg",
        "store.connection.execute('')",
        "x = 'PRAGMA y'",
    ],
)
def test_sql_is_seen(line: str) -> None:
    assert list(speaks_sql(line))


def test_words_are_no_sql() -> None:
    assert not list(speaks_sql('"""SELECT a FROM b"""\nx = "BEGINNING: select one from the list"'))
