"""What the name of a source means: a path here, or a Hub id. The name of what lies here, or lay here, is nobody else's business."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from modelkin_indexer.errors import SourceNotFound
from modelkin_indexer.sources.register import suffixes

FINGERPRINT_SUFFIX = ".modelkin"
HUB_PREFIX = "hf://"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
ALIKE = 0.8  # of difflib's ratio: `modles` for `models` is a slip of the keys; of public organisations' names few pairs are as near


def hub_id(source: str) -> str | None:
    """The Hub id that a source is, else None.

    With `hf://` before it, it is one whatever is here. Without, only if nothing of it is here (neither the path nor a folder of the name
    before the slash, or of nearly that name) and nothing of it ends as the names of files do.
    """
    name = source.removeprefix(HUB_PREFIX)
    if not HUB_ID.fullmatch(name) or (name == source and _may_be_here(source)):
        return None
    return name


def _may_be_here(name: str) -> bool:
    first = name.split("/")[0]
    return os.path.lexists(name) or os.path.lexists(first) or _is_file_name(name) or _near(first, Path()) is not None


def _is_file_name(name: str) -> bool:
    return any(part.lower().endswith((*suffixes(), FINGERPRINT_SUFFIX)) for part in name.partition("@")[0].split("/"))


def _near(name: str, folder: Path) -> str | None:
    """What lies in the folder under nearly this name; None where nothing does."""
    try:
        there = {entry.name.lower(): entry.name for entry in os.scandir(folder) if not entry.name.startswith(".")}
    except OSError:
        return None
    from difflib import get_close_matches  # for names that are not there

    found = get_close_matches(name.lower(), sorted(there), 1, ALIKE)
    return there[found[0]] if found else None


def existing(source: str, is_registered: Callable[[str], bool] = lambda _: False, *, from_hub: bool = True) -> Path:
    """The path that a source names.

    Args:
        is_registered: whether a model is registered under a name, which is no source here: then that is hinted at.
        from_hub: whether the caller reads Hub ids too.

    Raises:
        SourceNotFound: nothing is there; the remedy says what could be meant.
    """
    path = Path(source)
    if path.exists():
        return path
    raise SourceNotFound("no such file or folder", path=source, remedy=_remedy(source, is_registered(source), from_hub))


def _remedy(source: str, is_registered: bool, from_hub: bool) -> str:
    if is_registered:
        return f"A registered model has this name, but here weights are read; `modelkin compare {source} OTHER` takes names."
    near, name = _near_path(Path(source)), source.removeprefix(HUB_PREFIX)
    said = "Give a file of weights, or a folder with one model." if near is None else f"Is {str(near)!r} meant?"
    if not HUB_ID.fullmatch(name) or _is_file_name(name):
        return said
    if from_hub:
        return f"{said} If it is a Hub id, write {HUB_PREFIX}{name}."
    return f"{said} Only local files are read here: if it is a Hub id, download it with `hf download {name}`, and give the folder."


def _near_path(path: Path) -> Path | None:
    """A path here that differs from this one in a slip of one name; None without any."""
    if (near := _near(path.name, path.parent)) is not None:
        return path.parent / near
    near = _near(path.parent.name, path.parent.parent)
    there = path.parent.parent / near / path.name if near else None
    return there if there is not None and there.exists() else None


def guessed_name(source: str) -> str:
    """What to call a source that could not be opened."""
    return hub_id(source) or Path(source).name or source
