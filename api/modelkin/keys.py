"""The key of a call: the private one in a file, else the public one."""

from __future__ import annotations

from pathlib import Path

from modelkin_indexer.errors import UnusableKey
from modelkin_indexer.spec import PUBLIC_KEY, Key, private_key

KEY_BYTES = 32


def read_key(path: Path | None) -> Key:
    """The private key in a file, the public key without one.

    Raises:
        UnusableKey: the file cannot be read or holds no key. The message never shows what it holds.
    """
    if path is None:
        return PUBLIC_KEY
    try:
        data = path.read_bytes()
        return private_key(data if len(data) == KEY_BYTES else bytes.fromhex(data.decode("ascii").strip()))
    except OSError as error:
        raise UnusableKey(f"{path}: {error.strerror}. Give a file with a private key (--key-file).") from None
    except Exception:  # whatever the reason, a chained error could show a part of the key
        hint = "Make one with `python -c 'import secrets; print(secrets.token_hex(32))'`."
        raise UnusableKey(f"{path}: holds neither 32 bytes nor 64 hex digits (--key-file). {hint}") from None
