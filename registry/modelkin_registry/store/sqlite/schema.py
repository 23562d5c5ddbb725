"""The registry's tables, as migrations. A step that was ever released is never edited; a change is a new step at the end.

    meta         whose registry this is: spec, key and a random identity
    model        identity: a name; `redirect_to` keeps a former name resolving; `sender` is the file that brought an imported model
    revision     a model's successive contents; the one with the highest id is the newest, whatever a clock says
    fingerprint  observation of one revision at one level; its bytes lie in `blob`, so that rows stay small to browse
    source       who says that this revision exists, when, and from where
    claim        declared lineage and terms (base_model, adapter, license), apart from what weights show
    kind         vector spaces and their numbers a row
    vector       derived: rows of each revision's searched fingerprint, with a checksum
    change       what happened to which model and revision, in order; drives the derived index
    hub_repo     the journal of `modelkin sync`, and its queue: what was done with which repository, or why not
    structure    what lies beside the weights (vocabulary, code, licence), over time; shown apart, never evidence
    background   what `modelkin calibrate` measured of this registry's strangers
    tag          the maintainers' own words on models, by which they are chosen; `note`: the same in sentences
    facet        derived: what revisions are chosen by (family, components, level), of the fingerprint that stands for each
    kinship      derived: what pairs of fingerprints showed for a tree, and what they were judged by
    hub_listing  how far back the next listing of a selection has to go

The view `searched` names the fingerprint that stands for each revision, that of the highest level, and tells which revision is current.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

import sqlite_utils
from sqlite_utils import Migrations

from modelkin_registry.store.rows import checksum
from modelkin_registry.store.sql.facets import DERIVED_FROM, derived
from modelkin_registry.store.sql.facets import NEW as NEW_FACETS
from modelkin_registry.store.sql.sealed import SEALED
from modelkin_registry.store.sqlite.marks import MIGRATIONS, STEPS

migrations = Migrations(MIGRATIONS)

TABLES = (
    """CREATE TABLE meta (id INTEGER PRIMARY KEY CHECK (id = 1), registry TEXT NOT NULL, spec TEXT NOT NULL, key TEXT NOT NULL,
        created TEXT NOT NULL)""",
    """CREATE TABLE model (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, added TEXT NOT NULL,
        redirect_to INTEGER REFERENCES model (id) ON DELETE CASCADE)""",
    "CREATE INDEX model_redirect ON model (redirect_to) WHERE redirect_to IS NOT NULL",
    """CREATE TABLE revision (id INTEGER PRIMARY KEY AUTOINCREMENT, model INTEGER NOT NULL REFERENCES model (id) ON DELETE CASCADE,
        content TEXT NOT NULL, files TEXT NOT NULL, parameters INTEGER NOT NULL, bytes_total INTEGER NOT NULL, config TEXT NOT NULL,
        added TEXT NOT NULL)""",
    "CREATE INDEX revision_model ON revision (model, id)",
    """CREATE TABLE fingerprint (id INTEGER PRIMARY KEY AUTOINCREMENT, revision INTEGER NOT NULL REFERENCES revision (id) ON DELETE CASCADE,
        level TEXT NOT NULL, spec TEXT NOT NULL, key TEXT NOT NULL, coverage REAL NOT NULL, about TEXT NOT NULL, digest TEXT NOT NULL,
        bytes INTEGER NOT NULL, added TEXT NOT NULL, UNIQUE (revision, level))""",
    "CREATE TABLE blob (fingerprint INTEGER PRIMARY KEY REFERENCES fingerprint (id) ON DELETE CASCADE, data BLOB NOT NULL)",
    """CREATE TABLE source (id INTEGER PRIMARY KEY, revision INTEGER NOT NULL REFERENCES revision (id) ON DELETE CASCADE,
        who TEXT NOT NULL, origin TEXT NOT NULL, first_seen TEXT NOT NULL, last_seen TEXT NOT NULL, files TEXT NOT NULL,
        UNIQUE (revision, who, origin))""",
    """CREATE TABLE claim (id INTEGER PRIMARY KEY, model INTEGER NOT NULL REFERENCES model (id) ON DELETE CASCADE,
        kind TEXT NOT NULL, value TEXT NOT NULL, source TEXT NOT NULL, first_seen TEXT NOT NULL, last_seen TEXT NOT NULL,
        UNIQUE (model, kind, value, source))""",
    "CREATE TABLE kind (name TEXT PRIMARY KEY, dims INTEGER NOT NULL) WITHOUT ROWID",
    # in the order in which the index is built: one kind at a time, models ascending
    """CREATE TABLE vector (kind TEXT NOT NULL REFERENCES kind (name), model INTEGER NOT NULL REFERENCES model (id) ON DELETE CASCADE,
        component TEXT NOT NULL, fingerprint INTEGER NOT NULL REFERENCES fingerprint (id) ON DELETE CASCADE,
        layers BLOB NOT NULL, data BLOB NOT NULL, PRIMARY KEY (kind, model, component)) WITHOUT ROWID""",
    "CREATE INDEX vector_model ON vector (model, fingerprint)",
    "CREATE INDEX vector_fingerprint ON vector (fingerprint)",
    # no reference to model: a removed model is known here by its number alone, and numbers are never given twice
    "CREATE TABLE change (seq INTEGER PRIMARY KEY AUTOINCREMENT, model INTEGER NOT NULL, what TEXT NOT NULL, at TEXT NOT NULL)",
    """CREATE VIEW searched AS SELECT model.id AS model, model.name AS name, model.added AS added, revision.id AS revision,
        (SELECT id FROM fingerprint WHERE revision = revision.id ORDER BY level = 'full' DESC, id DESC LIMIT 1) AS fingerprint
        FROM model JOIN revision ON revision.id = (SELECT max(id) FROM revision WHERE model = model.id)""",
)

HUB_TABLES = (
    """CREATE TABLE hub_repo (repo TEXT PRIMARY KEY, hub_id TEXT NOT NULL, revision TEXT NOT NULL, modified TEXT NOT NULL,
        level TEXT NOT NULL, selection TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', tries INTEGER NOT NULL,
        passing INTEGER NOT NULL DEFAULT 0, content TEXT NOT NULL DEFAULT '', bytes INTEGER NOT NULL DEFAULT 0,
        model INTEGER REFERENCES model (id) ON DELETE SET NULL, noted TEXT NOT NULL, seen TEXT NOT NULL DEFAULT '') WITHOUT ROWID""",
    "CREATE INDEX hub_queue ON hub_repo (selection, state, modified, repo)",
    "CREATE INDEX hub_ids ON hub_repo (hub_id)",
    "CREATE INDEX hub_contents ON hub_repo (content) WHERE content != ''",
    "CREATE INDEX hub_models ON hub_repo (model)",
    "CREATE TABLE hub_listing (selection TEXT PRIMARY KEY, newest TEXT NOT NULL, noted TEXT NOT NULL) WITHOUT ROWID",
)

STRUCTURE_TABLES = (
    """CREATE TABLE structure (model INTEGER NOT NULL REFERENCES model (id) ON DELETE CASCADE, kind TEXT NOT NULL, name TEXT NOT NULL,
        digest TEXT NOT NULL, data BLOB NOT NULL, first_seen TEXT NOT NULL, last_seen TEXT NOT NULL, UNIQUE (model, kind, name, digest))""",
    "CREATE INDEX structure_kind ON structure (kind, model)",
)


BACKGROUND_TABLES = (
    """CREATE TABLE background (channel TEXT NOT NULL, family TEXT NOT NULL, sd REAL NOT NULL, shipped REAL NOT NULL,
        pairs INTEGER NOT NULL, lineages INTEGER NOT NULL, used INTEGER NOT NULL, models INTEGER NOT NULL, measured TEXT NOT NULL,
        PRIMARY KEY (channel, family)) WITHOUT ROWID""",
)

# Search rows were the models'; now they are the revisions'. The index built before is of another format, and built anew from these.
REVISION_TABLES = (
    "ALTER TABLE model ADD COLUMN sender TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE change ADD COLUMN revision INTEGER",
    "ALTER TABLE kind ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0",
    "UPDATE kind SET checksum = checksum(name, dims)",
    "DROP VIEW searched",
    "DROP INDEX vector_model",
    "DROP INDEX vector_fingerprint",
    "ALTER TABLE vector RENAME TO former_vector",
    """CREATE TABLE vector (kind TEXT NOT NULL REFERENCES kind (name), revision INTEGER NOT NULL REFERENCES revision (id) ON DELETE CASCADE,
        component TEXT NOT NULL, fingerprint INTEGER NOT NULL REFERENCES fingerprint (id) ON DELETE CASCADE,
        layers BLOB NOT NULL, data BLOB NOT NULL, checksum INTEGER NOT NULL, PRIMARY KEY (kind, revision, component)) WITHOUT ROWID""",
    """INSERT INTO vector SELECT kind, fingerprint.revision, component, former_vector.fingerprint, layers, data,
        checksum(kind, fingerprint.revision, component, layers, data) FROM former_vector
        JOIN fingerprint ON fingerprint.id = former_vector.fingerprint""",
    "DROP TABLE former_vector",
    "CREATE INDEX vector_revision ON vector (revision, fingerprint)",
    "CREATE INDEX vector_fingerprint ON vector (fingerprint)",
    """INSERT INTO change (model, revision, what, at) SELECT DISTINCT revision.model, revision.id, 'put', (SELECT max(at) FROM change)
        FROM vector JOIN revision ON revision.id = vector.revision ORDER BY revision.id""",
    """CREATE VIEW searched AS SELECT revision.id AS revision, model.id AS model, model.name AS name, model.sender AS sender,
        revision.content AS content, revision.id = (SELECT max(id) FROM revision AS other WHERE other.model = model.id) AS current,
        (SELECT id FROM fingerprint WHERE revision = revision.id ORDER BY level = 'full' DESC, id DESC LIMIT 1) AS fingerprint
        FROM revision JOIN model ON model.id = revision.model""",
)


# Which fingerprints are of an older spec is asked at every opening; without an index every row would be read for it.
SPEC_TABLES = ("CREATE INDEX fingerprint_spec ON fingerprint (spec, revision)",)

# A waiting repository may be lent to a worker until a time, which other workers respect; after a failure it waits until another one.
LEASE_TABLES = (
    *(f"ALTER TABLE hub_repo ADD COLUMN {column} TEXT NOT NULL DEFAULT ''" for column in ("holder", "until", "not_before")),
    "ALTER TABLE hub_repo ADD COLUMN leases INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX hub_leases ON hub_repo (state, modified, repo)",
    "CREATE INDEX hub_holders ON hub_repo (holder) WHERE holder != ''",
)

# What maintainers say of their models, and what models are listed, sorted and chosen by.
LABEL_TABLES = (
    """CREATE TABLE tag (model INTEGER NOT NULL REFERENCES model (id) ON DELETE CASCADE, name TEXT NOT NULL, added TEXT NOT NULL,
        checksum INTEGER NOT NULL, PRIMARY KEY (model, name)) WITHOUT ROWID""",
    "CREATE INDEX tag_name ON tag (name, model)",
    """CREATE TABLE note (model INTEGER PRIMARY KEY REFERENCES model (id) ON DELETE CASCADE, text TEXT NOT NULL, noted TEXT NOT NULL,
        checksum INTEGER NOT NULL)""",
    """CREATE TABLE facet (revision INTEGER PRIMARY KEY REFERENCES revision (id) ON DELETE CASCADE, model INTEGER NOT NULL,
        level TEXT NOT NULL, family TEXT NOT NULL, components TEXT NOT NULL, quantization TEXT NOT NULL, adapter TEXT NOT NULL,
        parameters INTEGER, bytes INTEGER NOT NULL, coverage REAL NOT NULL, updated TEXT NOT NULL)""",
    "CREATE INDEX facet_family ON facet (family)",
    "CREATE INDEX revision_content ON revision (content)",
)

# What pairs showed, by the numbers of their fingerprints, which never change.
PAIR_TABLES = (
    """CREATE TABLE kinship (a INTEGER NOT NULL REFERENCES fingerprint (id) ON DELETE CASCADE,
        b INTEGER NOT NULL REFERENCES fingerprint (id) ON DELETE CASCADE, judge TEXT NOT NULL, told TEXT NOT NULL,
        checksum INTEGER NOT NULL, PRIMARY KEY (a, b)) WITHOUT ROWID""",
    "CREATE INDEX kinship_b ON kinship (b)",
)

# What long lists are browsed by.
BROWSING_INDEXES = (
    "CREATE INDEX facet_model ON facet (model, revision)",
    "CREATE INDEX facet_parameters ON facet (parameters)",
    "CREATE INDEX model_small ON model (lower(name))",
    "CREATE INDEX model_added ON model (added)",
)

SEALED_FIRST = ("model", "revision", "fingerprint", "source")
SEALED_THEN = ("claim", "structure", "background")


@migrations(name=STEPS[0])
def _first(database: sqlite_utils.Database) -> None:
    for statement in TABLES:
        database.conn.execute(statement)


@migrations(name=STEPS[1])
def _second(database: sqlite_utils.Database) -> None:
    for statement in HUB_TABLES:
        database.conn.execute(statement)


@migrations(name=STEPS[2])
def _third(database: sqlite_utils.Database) -> None:
    for statement in STRUCTURE_TABLES:
        database.conn.execute(statement)


@migrations(name=STEPS[3])
def _fourth(database: sqlite_utils.Database) -> None:
    for statement in BACKGROUND_TABLES:
        database.conn.execute(statement)


@migrations(name=STEPS[4])
def _fifth(database: sqlite_utils.Database) -> None:
    database.conn.create_function("checksum", -1, checksum, deterministic=True)
    for statement in REVISION_TABLES:
        database.conn.execute(statement)


@migrations(name=STEPS[5])
def _sixth(database: sqlite_utils.Database) -> None:
    for statement in SPEC_TABLES:
        database.conn.execute(statement)


@migrations(name=STEPS[6])
def _seventh(database: sqlite_utils.Database) -> None:
    _with_checksums(database.conn, SEALED_FIRST)


@migrations(name=STEPS[7])
def _eighth(database: sqlite_utils.Database) -> None:
    _with_checksums(database.conn, SEALED_THEN)


@migrations(name=STEPS[8])
def _ninth(database: sqlite_utils.Database) -> None:
    for statement in LEASE_TABLES:
        database.conn.execute(statement)


@migrations(name=STEPS[9])
def _tenth(database: sqlite_utils.Database) -> None:
    for statement in LABEL_TABLES:
        database.conn.execute(statement)
    database.conn.executemany(NEW_FACETS, [derived(*row) for row in database.conn.execute(DERIVED_FROM).fetchall()])


@migrations(name=STEPS[10])
def _eleventh(database: sqlite_utils.Database) -> None:
    for statement in PAIR_TABLES:
        database.conn.execute(statement)


@migrations(name=STEPS[11])
def _twelfth(database: sqlite_utils.Database) -> None:
    for statement in BROWSING_INDEXES:
        database.conn.execute(statement)


def _with_checksums(connection: sqlite3.Connection, tables: Sequence[str]) -> None:
    for table in tables:
        connection.execute(f"ALTER TABLE {table} ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0")
    seal(connection, tables)


def seal(connection: sqlite3.Connection, tables: Iterable[str] = SEALED) -> None:
    """Give every row the checksum of what it holds now."""
    connection.create_function("checksum", -1, checksum, deterministic=True)
    for table in tables:
        connection.execute(f"UPDATE {table} SET checksum = checksum({', '.join(SEALED[table])})")  # noqa: S608


def bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Do every step that the file lacks, inside the caller's transaction."""
    migrations.apply(sqlite_utils.Database(connection))
