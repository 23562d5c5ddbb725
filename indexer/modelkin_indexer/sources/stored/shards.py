"""Which file of a sharded model a tensor is read from, where files, their names and an index do not agree."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from modelkin_indexer.errors import DamagedFile
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, PICK

SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d{5,6})-of-(?P<count>\d{5,6})(?P<variant>[.]\w+)?")
MOST_ABSENT = 0.5  # of what an index names: if more is in no file, these are not the index's files
NAMED = 3  # tensors named in a note
Same = Callable[[str, str, str], bool]  # (tensor, file, other file): whether both hold it with equal bytes


def numbers_of(names: Iterable[str]) -> tuple[set[int], int]:
    """The numbers of shards by their file names, and how many there are said to be (0: these are no shards)."""
    found = [match for name in names if (match := SHARD.search(name)) is not None]
    return {int(match["number"]) for match in found}, max((int(match["count"]) for match in found), default=0)


def missing_shards(names: Collection[str], listed: int) -> list[int]:
    """The first `listed` numbers of the shards that are not there; libraries count from 1 or from 0."""
    there, count = numbers_of(names)
    if not count:
        return []
    for first, last in ((1, count), (0, count - 1), (0, count)):
        if len(there) == last - first + 1 and min(there) == first and max(there) == last:
            return []
    low = 0 if 0 in there else 1
    return [number for number in range(low, low + min(count, len(there) + listed)) if number not in there][:listed] or [count]


def settled(
    held: Mapping[str, Collection[str]], index: Mapping[str, str], same: Same, folder: Path
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The file of each tensor, and what a person should know. `held`: tensors by file; `index`: what the index says, or empty.

    Raises:
        DamagedFile: one tensor with different bytes in two files, and no index that decides; or an index of other files.
    """
    places: dict[str, list[str]] = {}
    for file, tensors in held.items():
        for tensor in tensors:
            places.setdefault(tensor, []).append(file)
    where, notes = {}, Counter[str]()
    for tensor, files in places.items():
        said = index.get(tensor)
        where[tensor] = said if said in files else files[0]
        if len(files) > 1:
            notes["decided" if said in files else "twice"] += 1
            if said not in files and not all(same(tensor, files[0], other) for other in files[1:]):
                remedy = f"Remove the file that does not belong to the model, or {PICK}"
                raise DamagedFile(f"is also in {files[0]}, with other bytes", path=folder / files[1], tensor=tensor, remedy=remedy)
        elif said is not None and said not in files:
            notes["elsewhere"] += 1
    absent = [tensor for tensor in index if tensor not in places]
    if len(absent) > MOST_ABSENT * len(index):
        problem = f"{len(absent)} of the {len(index)} tensors that the index names are in none of its files"
        raise DamagedFile(problem, path=folder, remedy=FETCH_AGAIN)
    return where, tuple(_told(notes, absent, len(places) - len(index) + len(absent) if index else 0))


def _told(notes: Mapping[str, int], absent: Collection[str], extra: int) -> Iterable[str]:
    if notes.get("decided"):
        yield f"{notes['decided']} tensors stand in several files; the index decides which are read."
    if notes.get("twice"):
        yield f"{notes['twice']} tensors stand in two files with equal bytes; they are read once."
    if notes.get("elsewhere"):
        yield f"{notes['elsewhere']} tensors are in another file than the index says; they are read from there."
    if absent:
        names = ", ".join(sorted(absent)[:NAMED]) + (", ..." if len(absent) > NAMED else "")
        yield f"The index names {len(absent)} tensors that no file holds ({names}); they are left out."
    if extra > 0:
        yield f"The index leaves out {extra} tensors that its files hold; they are read too."


def stale(index: Path) -> str:
    """What to say of an index that names files which are not there."""
    return f"{index.name} names files that are not there; the files beside it are complete by their names and are read without it."
