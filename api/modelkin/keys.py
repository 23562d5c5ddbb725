"""Private keys: made, shown, rotated and read. What is told of a key never lets anybody find it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from modelkin_indexer.errors import UnusableKey
from modelkin_indexer.spec import PUBLIC, PUBLIC_KEY, Key, private_key

if TYPE_CHECKING:
    from modelkin_registry.answers.written import KeyTold

KEY_BYTES = 32
ONLY_OWNER = 0o600  # who may read a key's file
Action = Literal["new", "show", "rotate"]


def key(action: Action, file: str | os.PathLike[str]) -> KeyTold:
    """Make, show or rotate the private key in a file.

    Args:
        action: `new` draws a key into a file that is not there yet, which only its owner may read; `show` says which one a file holds;
            `rotate` draws another one into the file and keeps the former beside it, as FILE.ID.

    Raises:
        UnusableKey: the file is there already, cannot be read or written, or holds no key.
    """
    path = Path(file)
    if action == "show":
        return _told(path, _secret(path))
    import secrets  # every verb reads a key, and this alone draws one

    drawn = secrets.token_bytes(KEY_BYTES)
    if action == "new":
        return _told(_written(path, drawn), drawn)
    former = _secret(path)
    kept = path.with_name(f"{path.name}.{private_key(former).name}")
    if not kept.exists() or _secret(kept) != former:  # it is there after a rotation that was killed
        _written(kept, former)
    _written(path.with_name(f"{path.name}.{private_key(drawn).name}.new"), drawn).replace(path)
    return _told(path, drawn, str(kept))


def read_key(path: Path | None) -> Key:
    """The private key in a file; the public key without one, or by the word `public`.

    Raises:
        UnusableKey: the file cannot be read or holds no key. The message never shows what it holds.
    """
    return PUBLIC_KEY if path is None or str(path) == PUBLIC else private_key(_secret(path))


def _secret(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        secret = data if len(data) == KEY_BYTES else bytes.fromhex(data.decode("ascii").strip())
        private_key(secret)
        return secret
    except OSError as error:
        raise UnusableKey(f"{path}: {error.strerror}. Give a file with a private key; `modelkin key new FILE` makes one.") from None
    except Exception:  # whatever the reason, a chained error could show a part of the key
        raise UnusableKey(f"{path}: holds neither 32 bytes nor 64 hex digits. `modelkin key new FILE` makes a key.") from None


def _written(path: Path, secret: bytes) -> Path:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, ONLY_OWNER)
        try:
            with os.fdopen(handle, "w") as file:
                file.write(secret.hex() + "\n")
                file.flush()
                os.fsync(file.fileno())  # a rotation gives up the former key's place next
        except OSError:
            path.unlink()  # what is there of it is no key
            raise
    except FileExistsError:
        raise UnusableKey(f"{path}: is there already, and no key is written over. Give another name.") from None
    except OSError as error:
        raise UnusableKey(f"{path}: cannot be written ({error.strerror}). Give a place that you may write to.") from None
    return path


def _told(path: Path, secret: bytes, former: str | None = None) -> KeyTold:
    from modelkin_registry.answers.written import KeyTold

    return KeyTold(str(path), private_key(secret).name, "sha256:" + hashlib.sha256(secret).hexdigest(), former)
