"""The registry's tables in PostgreSQL, as migrations. A step that was ever released is never edited; a change is a new step at the end.

The tables and what they hold are those of a registry's SQLite file (see sqlite/schema.py), with the same numbers and checksums, so that
rows can be copied either way. Two more:

    migration    the steps that were done
    number       the last number given in each table that has its own: never given again, and without gaps, since one transaction writes
                 at a time; so whoever has read the change log up to a number has missed nothing before it
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psycopg import Connection

from modelkin_registry.store.sql.facets import DERIVED_FROM, derived
from modelkin_registry.store.sql.facets import NEW as NEW_FACETS

TEXT = 'TEXT COLLATE "C" NOT NULL'  # ordered by its bytes, as SQLite does
BLOB = "BYTEA STORAGE EXTERNAL NOT NULL"  # sketches do not get smaller
NUMBERED = {"model": "id", "revision": "id", "fingerprint": "id", "source": "id", "claim": "id", "change": "seq"}  # and by which column

# Claims, sources and structures have no unique index: their texts may be longer than one holds. Who writes looks first, and writes alone.
TABLES = (
    f"CREATE TABLE number (name {TEXT} PRIMARY KEY, last BIGINT NOT NULL)",
    *(f"INSERT INTO number (name, last) VALUES ('{table}', 0)" for table in NUMBERED),  # noqa: S608
    f"CREATE TABLE meta (id INTEGER PRIMARY KEY CHECK (id = 1), registry {TEXT}, spec {TEXT}, key {TEXT}, created {TEXT})",
    f"""CREATE TABLE model (id BIGINT PRIMARY KEY, name {TEXT} UNIQUE, added {TEXT},
        redirect_to BIGINT REFERENCES model (id) ON DELETE CASCADE, sender {TEXT}, checksum BIGINT NOT NULL)""",
    "CREATE INDEX model_redirect ON model (redirect_to) WHERE redirect_to IS NOT NULL",
    f"""CREATE TABLE revision (id BIGINT PRIMARY KEY, model BIGINT NOT NULL REFERENCES model (id) ON DELETE CASCADE, content {TEXT},
        files {TEXT}, parameters BIGINT NOT NULL, bytes_total BIGINT NOT NULL, config {TEXT}, added {TEXT}, checksum BIGINT NOT NULL)""",
    "CREATE INDEX revision_model ON revision (model, id)",
    f"""CREATE TABLE fingerprint (id BIGINT PRIMARY KEY, revision BIGINT NOT NULL REFERENCES revision (id) ON DELETE CASCADE, level {TEXT},
        spec {TEXT}, key {TEXT}, coverage DOUBLE PRECISION NOT NULL, about {TEXT}, digest {TEXT}, bytes BIGINT NOT NULL, added {TEXT},
        checksum BIGINT NOT NULL, UNIQUE (revision, level))""",
    "CREATE INDEX fingerprint_spec ON fingerprint (spec, revision)",
    "CREATE INDEX fingerprint_digest ON fingerprint (digest)",
    f"CREATE TABLE blob (fingerprint BIGINT PRIMARY KEY REFERENCES fingerprint (id) ON DELETE CASCADE, data {BLOB})",
    f"""CREATE TABLE source (id BIGINT PRIMARY KEY, revision BIGINT NOT NULL REFERENCES revision (id) ON DELETE CASCADE, who {TEXT},
        origin {TEXT}, first_seen {TEXT}, last_seen {TEXT}, files {TEXT}, checksum BIGINT NOT NULL)""",
    "CREATE INDEX source_revision ON source (revision)",
    f"""CREATE TABLE claim (id BIGINT PRIMARY KEY, model BIGINT NOT NULL REFERENCES model (id) ON DELETE CASCADE, kind {TEXT},
        value {TEXT}, source {TEXT}, first_seen {TEXT}, last_seen {TEXT}, checksum BIGINT NOT NULL)""",
    "CREATE INDEX claim_model ON claim (model)",
    f"CREATE TABLE kind (name {TEXT} PRIMARY KEY, dims BIGINT NOT NULL, checksum BIGINT NOT NULL)",
    f"""CREATE TABLE vector (kind {TEXT} REFERENCES kind (name), revision BIGINT NOT NULL REFERENCES revision (id) ON DELETE CASCADE,
        component {TEXT}, fingerprint BIGINT NOT NULL REFERENCES fingerprint (id) ON DELETE CASCADE, layers {BLOB}, data {BLOB},
        checksum BIGINT NOT NULL, PRIMARY KEY (kind, revision, component))""",
    "CREATE INDEX vector_revision ON vector (revision, fingerprint)",
    "CREATE INDEX vector_fingerprint ON vector (fingerprint)",
    f"CREATE TABLE change (seq BIGINT PRIMARY KEY, model BIGINT NOT NULL, what {TEXT}, at {TEXT}, revision BIGINT)",
    f"""CREATE TABLE hub_repo (repo {TEXT} PRIMARY KEY, hub_id {TEXT}, revision {TEXT}, modified {TEXT}, level {TEXT}, selection {TEXT},
        state {TEXT}, reason {TEXT} DEFAULT '', tries INTEGER NOT NULL, passing INTEGER NOT NULL DEFAULT 0, content {TEXT} DEFAULT '',
        bytes BIGINT NOT NULL DEFAULT 0, model BIGINT REFERENCES model (id) ON DELETE SET NULL, noted {TEXT}, seen {TEXT} DEFAULT '')""",
    "CREATE INDEX hub_queue ON hub_repo (state, modified, repo)",
    "CREATE INDEX hub_ids ON hub_repo (hub_id)",
    "CREATE INDEX hub_contents ON hub_repo (content) WHERE content != ''",
    "CREATE INDEX hub_models ON hub_repo (model)",
    f"CREATE TABLE hub_listing (selection {TEXT} PRIMARY KEY, newest {TEXT}, noted {TEXT})",
    f"""CREATE TABLE structure (model BIGINT NOT NULL REFERENCES model (id) ON DELETE CASCADE, kind {TEXT}, name {TEXT}, digest {TEXT},
        data {BLOB}, first_seen {TEXT}, last_seen {TEXT}, checksum BIGINT NOT NULL)""",
    "CREATE INDEX structure_model ON structure (model)",
    "CREATE INDEX structure_kind ON structure (kind, model)",
    f"""CREATE TABLE background (channel {TEXT}, family {TEXT}, sd DOUBLE PRECISION NOT NULL, shipped DOUBLE PRECISION NOT NULL,
        pairs BIGINT NOT NULL, lineages BIGINT NOT NULL, used INTEGER NOT NULL, models BIGINT NOT NULL, measured {TEXT},
        checksum BIGINT NOT NULL, PRIMARY KEY (channel, family))""",
    """CREATE VIEW searched AS SELECT revision.id AS revision, model.id AS model, model.name AS name, model.sender AS sender,
        revision.content AS content, revision.id = (SELECT max(id) FROM revision AS other WHERE other.model = model.id) AS current,
        (SELECT id FROM fingerprint WHERE revision = revision.id ORDER BY level = 'full' DESC, id DESC LIMIT 1) AS fingerprint
        FROM revision JOIN model ON model.id = revision.model""",
)
NOTES = f"CREATE TABLE IF NOT EXISTS migration (name {TEXT} PRIMARY KEY, at {TEXT})"
LEASE_TABLES = (
    *(f"ALTER TABLE hub_repo ADD COLUMN {column} {TEXT} DEFAULT ''" for column in ("holder", "until", "not_before")),
    "ALTER TABLE hub_repo ADD COLUMN leases INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX hub_holders ON hub_repo (holder) WHERE holder != ''",
)
LABEL_TABLES = (
    f"""CREATE TABLE tag (model BIGINT NOT NULL REFERENCES model (id) ON DELETE CASCADE, name {TEXT}, added {TEXT},
        checksum BIGINT NOT NULL, PRIMARY KEY (model, name))""",
    "CREATE INDEX tag_name ON tag (name, model)",
    f"""CREATE TABLE note (model BIGINT PRIMARY KEY REFERENCES model (id) ON DELETE CASCADE, text {TEXT}, noted {TEXT},
        checksum BIGINT NOT NULL)""",
    f"""CREATE TABLE facet (revision BIGINT PRIMARY KEY REFERENCES revision (id) ON DELETE CASCADE, model BIGINT NOT NULL, level {TEXT},
        family {TEXT}, components {TEXT}, quantization {TEXT}, adapter {TEXT}, parameters BIGINT, bytes BIGINT NOT NULL,
        coverage DOUBLE PRECISION NOT NULL, updated {TEXT})""",
    "CREATE INDEX facet_family ON facet (family)",
    "CREATE INDEX revision_content ON revision (content)",
)

PAIR_TABLES = (
    f"""CREATE TABLE kinship (a BIGINT NOT NULL REFERENCES fingerprint (id) ON DELETE CASCADE,
        b BIGINT NOT NULL REFERENCES fingerprint (id) ON DELETE CASCADE, judge {TEXT}, told {TEXT}, checksum BIGINT NOT NULL,
        PRIMARY KEY (a, b))""",
    "CREATE INDEX kinship_b ON kinship (b)",
)


BROWSING_INDEXES = (
    "CREATE INDEX facet_model ON facet (model, revision)",
    "CREATE INDEX facet_parameters ON facet (parameters DESC NULLS LAST)",
    "CREATE INDEX model_small ON model (lower(name))",
    "CREATE INDEX model_added ON model (added)",
)


def _derive_facets(connection: Connection[Any]) -> None:
    rows = [derived(*row) for row in connection.execute(DERIVED_FROM).fetchall()]
    connection.cursor().executemany(NEW_FACETS.replace("?", "%s"), rows)


Step = tuple[str | Callable[[Connection[Any]], None], ...]
STEPS: dict[str, Step] = {
    "1 as SQLite's file after its step 8": TABLES,
    "2 leases of the queue": LEASE_TABLES,
    "3 tags, notes, facets": (*LABEL_TABLES, _derive_facets),
    "4 pairs of family trees": PAIR_TABLES,
    "5 indexes to browse by": BROWSING_INDEXES,
}
