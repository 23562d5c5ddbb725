"""Write docs/schema.md from the migrations. Run after a change: `python docs/make_schema_page.py`."""

from __future__ import annotations

from pathlib import Path

import sqlite_utils

from modelkin_registry.store.sqlite import schema

PAGE = Path(__file__).parent / "schema.md"
HEAD = """# The registry's file

Made from `registry/modelkin_registry/store/sqlite/schema.py` by `python docs/make_schema_page.py`.

A registry is one SQLite file (write-ahead log, `synchronous=FULL`, page size 8192). It is the truth; the folder `<file>.index/` beside it
holds FAISS indexes that are derived from the table `vector`, carry a generation and a checksum, and are built anew when they are missing,
stale or damaged. Any SQLite browser can read the file while it is in use; write to it with `modelkin` only.
Where the file or its folder may not be written, it can still be read: nothing is written then, not even the index.
In PostgreSQL the tables are the same, with the same numbers and checksums: see [registries in PostgreSQL](postgresql.md).
Queries to begin with, for SQLite, PostgreSQL, DuckDB and Datasette: [keeping a registry](upkeep.md#with-sql).

"""


def page() -> str:
    """The page's text."""
    purpose = (schema.__doc__ or "").split("\n\n")
    database = sqlite_utils.Database(memory=True)
    schema.bring_up_to_date(database.conn)
    made = database.conn.execute("SELECT sql FROM sqlite_schema WHERE sql NOT NULL AND name NOT LIKE '%sqlite_%' ORDER BY rowid")
    tables = "\n\n".join(_statement(text) for (text,) in made)
    lines = "\n".join(line.strip() for line in purpose[1].splitlines())
    return f"{HEAD}```text\n{lines}\n```\n\n{purpose[2].strip()}\n\n## Tables\n\n```sql\n{tables}\n```\n"


def _statement(text: str) -> str:
    first, *others = text.splitlines()
    return "\n".join([first, *("    " + line.strip() for line in others)]) + ";"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
