"""What speaks to PostgreSQL comes with the extra `postgres`."""

from __future__ import annotations

from modelkin_indexer.errors import RegistryError
from modelkin_registry.store.address import Address


def require_driver(address: Address) -> None:
    """See that psycopg is there. Raises RegistryError with what to install."""
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise RegistryError(
            f"{address}: a registry in PostgreSQL needs psycopg, which is not installed here ({error}). "
            "Install it with `pip install 'modelkin[postgres]'`."
        ) from error
