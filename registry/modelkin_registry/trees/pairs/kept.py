"""Pairs of models that were held against each other for a tree, as they are kept with the registry.

What two fingerprints show of each other depends on them, on what they are judged by, and on the code that judges. All three are in the key,
so that a tree of kept pairs is the tree worked out afresh: whatever came, went or was renamed meanwhile.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3
from msgspec import Struct, convert, structs
from msgspec.structs import replace

import modelkin_data
from modelkin_indexer import results, sketch, spec
from modelkin_indexer.errors import RegistryError
from modelkin_registry.answers.evidence import Relative
from modelkin_registry.batches.pairs import Seen
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.store.protocol import Store

PAIR = tuple[int, int]
PACKED = "zlib:"  # before JSON that was packed, and written in base 64: of 7 KB two remain
QUICK = 3  # how hard it is packed
MOST = 1 << 24  # bytes unpacked: pairs of the largest models take some hundred KB


class Told(Struct, frozen=True):
    """What a pair showed: `is_link` whether there is evidence, and what `links.Link` has of it; `views` once they were held together."""

    is_link: bool
    closeness: float = 0.0
    seen: tuple[Seen, Seen] | None = None
    one_way: bool = True
    views: tuple[Relative, Relative, float, float] | None = None


class KeptPairs:
    """What a registry keeps of pairs, read when it is asked for, and what is to be kept of this time."""

    def __init__(self, store: Store, judge: Judge) -> None:
        self.store, self.signature = store, signature(judge)
        self._known: dict[PAIR, str] = {}
        self._read: set[int] = set()
        self.new: dict[PAIR, str] = {}

    def look_up(self, fingerprints: Iterable[int]) -> None:
        """Read what is kept of pairs whose first is one of these."""
        wanted = {number for number in fingerprints if number not in self._read}
        if wanted and self.signature:
            self._read |= wanted
            self._known |= self.store.kinship.told(self.signature, wanted)

    def __contains__(self, pair: PAIR) -> bool:
        return pair in self.new or pair in self._known

    def get(self, pair: PAIR) -> Told | None:
        """What a pair showed, None where it is not known."""
        text = self.text(pair)
        return None if text is None else read(text)

    def text(self, pair: PAIR) -> str | None:
        """The same as it is kept."""
        return self.new.get(pair) or self._known.get(pair)

    def put(self, pair: PAIR, told: Told) -> Told:
        """Note what a pair showed. Returns it, which is what will be read."""
        self.new[pair] = written(told)
        return told

    def keep(self) -> None:
        """Store what was noted, unless somebody else is writing, or the registry may not be written: then it is worked out another time."""
        new = [(a, b, text) for (a, b), text in sorted(self.new.items()) if self._known.get((a, b)) != text]
        if new and self.signature and not self.store.read_only:
            with suppress(RegistryError):  # a full disk, say: the answer is there
                self.store.kinship.keep(self.signature, new)


def signature(judge: Judge) -> str:
    """What tells this judge and this build of the code from others; "" where the code cannot be read, and nothing is kept."""
    try:
        code = _code()
    except OSError:
        return ""
    said = [judge.searched, sorted(map(list, ((*key, sd) for key, sd in judge.backgrounds.items()))), spec.VERSION, np.__version__]
    return str(blake3(json.dumps([said, code]).encode()).hexdigest(16))


@cache
def _code() -> str:
    """A digest of all that judges: the registry's code, and what it takes from the indexer and the tables."""
    places = [Path(__file__).parents[2], Path(results.__path__[0]), Path(str(sketch.__file__)), Path(modelkin_data.__path__[0])]
    hasher = blake3()
    for path in _files(places):
        hasher.update(path.name.encode() + path.read_bytes())
    return str(hasher.hexdigest(16))


def _files(places: Iterable[Path]) -> Iterator[Path]:
    for place in places:
        found = [place] if place.is_file() else sorted(path for kind in ("*.py", "*.json") for path in place.rglob(kind))
        if not found:
            raise OSError(f"{place}: no code")
        yield from found


# as text


def written(told: Told) -> str:
    """What a pair showed as JSON, of pairs that were held together packed. Numbers come back as they were."""
    text = json.dumps(told, default=_plain, separators=(",", ":"))
    return text if told.views is None else PACKED + base64.b64encode(zlib.compress(text.encode(), QUICK)).decode()


def read(text: str) -> Told:
    """The other way round."""
    plain = zlib.decompressobj().decompress(base64.b64decode(text[len(PACKED) :]), MOST) if text.startswith(PACKED) else text
    return convert(json.loads(plain), Told)


def under(relative: Relative, name: str) -> Relative:
    """A relative under the name that its model has now."""
    return replace(relative, model=name)


def _plain(value: Any) -> Any:
    """What JSON has no form for as something that it has one for."""
    if isinstance(value, frozenset):
        return sorted(value)
    return value.item() if isinstance(value, np.generic) else structs.asdict(value)
