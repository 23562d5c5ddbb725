"""The table of what revisions are chosen by, derived from the fingerprint that stands for each: see `store/choosing.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from modelkin_registry.store.choosing import facets_of
from modelkin_registry.store.records import Facets

COLUMNS = ("revision", "level", "family", "components", "quantization", "adapter", "parameters", "coverage")
NEW = f"INSERT INTO facet ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608
OF_REVISION = "SELECT * FROM facet WHERE revision = ?"
# Every revision with the fingerprint that stands for it.
DERIVED_FROM = """SELECT revision.id, fingerprint.level, fingerprint.coverage, revision.parameters, fingerprint.about, revision.config
    FROM searched JOIN revision ON revision.id = searched.revision JOIN fingerprint ON fingerprint.id = searched.fingerprint"""


def row_of(revision: int, facets: Facets) -> tuple[Any, ...]:
    """Facets as the table has them: components between commas."""
    told = facets._asdict() | {"components": f",{','.join(facets.components)}," if facets.components else ","}
    return (revision, *(told[column] for column in COLUMNS[1:]))


def read_row(row: Mapping[str, Any]) -> Facets:
    """The other way round."""
    told = {column: row[column] for column in COLUMNS[1:]}
    return Facets(**told | {"components": tuple(name for name in str(row["components"]).split(",") if name)})


def derived(revision: int, level: str, coverage: float, parameters: int, about: str, config: str) -> tuple[Any, ...]:
    """A row of DERIVED_FROM as one of the table. What is no JSON is damage, which the doctor tells of: it has no facets then."""
    try:
        told, said = json.loads(about), json.loads(config)
        return row_of(revision, facets_of(level, coverage, parameters, told, said))
    except (ValueError, TypeError, AttributeError):
        return row_of(revision, Facets(level, "", (), "", "", parameters, coverage))
