"""Files that appear under their name whole, or not at all, whatever kills the process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """An unfinished file beside `path`, which takes that name when the block ends without an error.

    A file that another process put there meanwhile is left alone. After a kill only a hidden unfinished file is left.
    """
    unfinished = path.with_name(f".{path.name}.unfinished-{os.urandom(4).hex()}")
    os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # with the permissions that the user gives new files
    try:
        yield unfinished
        _give_name(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _give_name(unfinished: Path, path: Path) -> None:
    try:
        os.link(unfinished, path)  # unlike a rename, fails where there is a file by now
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        unfinished.replace(path)
