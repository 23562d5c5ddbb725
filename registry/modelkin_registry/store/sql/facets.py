"""The table of what revisions are chosen by, derived from the fingerprint that stands for each: see `store/choosing.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from modelkin_registry.store.choosing import facets_of
from modelkin_registry.store.records import Facets

TOLD = ("level", "family", "components", "quantization", "adapter", "parameters", "bytes", "coverage")
COLUMNS = ("revision", "model", *TOLD, "updated")
NEW = f"INSERT INTO facet ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608
OF_REVISION = "SELECT * FROM facet WHERE revision = ?"
# Every revision with the fingerprint that stands for it.
DERIVED_FROM = """SELECT revision.id, revision.model, revision.added, fingerprint.level, fingerprint.coverage, revision.parameters,
    revision.bytes_total, fingerprint.about, revision.config FROM searched JOIN revision ON revision.id = searched.revision
    JOIN fingerprint ON fingerprint.id = searched.fingerprint"""


def derived(
    revision: int, model: int, added: str, level: str, coverage: float, parameters: int, size: int, about: str, config: str
) -> tuple[Any, ...]:
    """A row of DERIVED_FROM as one of the table. What is no JSON is damage, which the doctor tells of: it has no facets then."""
    try:
        facets = facets_of(level, coverage, parameters, size, json.loads(about), json.loads(config))
    except (ValueError, TypeError, AttributeError):
        facets = Facets(level, "", (), "", "", parameters, size, coverage)
    told = facets._asdict() | {"components": f",{','.join(facets.components)}," if facets.components else ","}
    return (revision, model, *(told[column] for column in TOLD), added)


def read_row(row: Mapping[str, Any]) -> Facets:
    """The facets of a row."""
    told = {column: row[column] for column in TOLD}
    return Facets(**told | {"components": tuple(name for name in str(row["components"]).split(",") if name)})
