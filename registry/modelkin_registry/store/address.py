"""Where a registry is: a file, or a schema of a PostgreSQL database."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from modelkin_indexer.errors import RegistryError

SCHEMES = ("postgresql://", "postgres://")
SCHEMA = "schema"  # the part of an address that is ours; all others are libpq's
DEFAULT_SCHEMA = "modelkin"
SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
SECRETS = ("password", "sslpassword")


class Address(str):
    """A registry in PostgreSQL: `postgresql://[user@]host[:port]/database[?schema=NAME]`, with whatever else libpq takes.

    Holds no password, so that it may stand in messages, reports and lists of processes.
    """

    schema: str  # in which its tables lie
    server: str  # what libpq connects to

    def __new__(cls, text: str) -> Address:
        """An address from its text.

        Raises:
            RegistryError: it holds a password, or a schema that cannot be one.
        """
        found = super().__new__(cls, text)
        try:
            parts = urlsplit(text)
            given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError as error:
            raise RegistryError(f"an address of a registry that cannot be read ({error}). Give postgresql://host/database.") from None
        _, _, secret = parts.netloc.rpartition("@")[0].partition(":")
        if secret or any(name in SECRETS for name, _ in given):
            raise RegistryError(
                "the registry's address holds a password, which anybody could read in lists of processes and in reports. Leave it out, and "
                "put it into ~/.pgpass, a service file, or the environment (PGPASSWORD)."
            )
        found.schema = dict(given).get(SCHEMA, DEFAULT_SCHEMA)
        if not SCHEMA_NAME.fullmatch(found.schema) or found.schema.startswith("pg_"):
            raise RegistryError(f"{text}: {found.schema!r} cannot be a schema of ours. Give a short name of lower-case letters and digits.")
        found.server = urlunsplit(parts._replace(query=urlencode([item for item in given if item[0] != SCHEMA])))
        return found

    def __getnewargs__(self) -> tuple[str]:
        return (str(self),)

    def of_key(self, key_name: str) -> Address:
        """Where this registry's models lie under another key: in a schema of their own."""
        given = [item for item in parse_qsl(urlsplit(self).query, keep_blank_values=True) if item[0] != SCHEMA]
        schema = f"{self.schema}_{key_name.replace('-', '_')}"
        return Address(urlunsplit(urlsplit(self)._replace(query=urlencode([*given, (SCHEMA, schema)]))))


Place = Path | Address


def place_of(text: str | os.PathLike[str]) -> Place:
    """What a text typed for a registry means. Raises RegistryError for an address that cannot be one, and a path that names no file."""
    written = os.fspath(text)
    if written.startswith(SCHEMES):
        return Address(written)
    if not Path(written).name:
        raise RegistryError(f"{written!r}: no file is named, a registry is one file. Give a file name, e.g. registry.sqlite.")
    return Path(written)


def is_same(one: Place, other: Place) -> bool:
    """Whether two places are the same, as far as can be told without a look at the server."""
    return one.resolve() == other.resolve() if isinstance(one, Path) and isinstance(other, Path) else one == other
