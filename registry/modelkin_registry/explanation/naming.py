"""What sentences call the models that they speak of."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import PurePath


def told_apart(a: str, b: str) -> tuple[str, str]:
    """The last parts of two paths, as many as tell one from the other (`run1/model.pt`, `run2/model.pt`); of one and the same the last."""
    ours, theirs = PurePath(a).parts[::-1], PurePath(b).parts[::-1]
    same = next((n for n, (one, other) in enumerate(zip_longest(ours, theirs)) if one != other), 0)
    short = ("/".join(parts[: same + 1][::-1]).replace("//", "/") for parts in (ours, theirs))
    first, second = (name or given for name, given in zip(short, (a, b), strict=True))
    return first, second
