"""What an audit looks at: a fingerprint, and where weights are at hand their names, sizes and values too."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from msgspec import Struct

from modelkin.auditing.units import Pair, pairs
from modelkin.sources.naming import FINGERPRINT_SUFFIX, existing, hub_id
from modelkin.sources.reading import DEFAULT_LEVEL, opened, reading_of
from modelkin.wishes import Asked, HowToRead, Listener
from modelkin_indexer.places import Anatomy, Piece, Place
from modelkin_indexer.results.fingerprint import Fingerprint, Matrices
from modelkin_indexer.source import Source
from modelkin_registry.answers.asked import Unusual
from modelkin_registry.answers.sides import is_change

NAMED = 3  # tensors named of a finding
NO_WEIGHTS = "there are no weights here: of a fingerprint, or of a model on the Hub, names and values are not looked at"
NOT_FULL = "level probe looks at some rows of each matrix only"
IS_CHANGE = "these are the changes of an adapter, not the weights of a model"
Found = Sequence[Unusual] | str  # what was found, or why it was not examined


class Examined(Struct, frozen=True, dict=True):
    """A model to be looked at. `source` and `anatomy` are None where only its fingerprint is at hand."""

    fingerprint: Fingerprint
    notes: tuple[str, ...] = ()
    source: Source | None = None
    anatomy: Anatomy | None = None

    @cached_property
    def pieces(self) -> Mapping[Place, Piece]:
        """Pieces by their places."""
        return {piece.place: piece for piece in self.anatomy.pieces} if self.anatomy is not None else {}

    @cached_property
    def rows(self) -> Mapping[Place, int]:
        """The row of each matrix in the fingerprint."""
        return {place: row for row, place in enumerate(self.fingerprint.matrices.places)}

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """The matrices of each layer that have units in common: of weights, all of which are read for it once."""
        matrices = {place: piece for place, piece in self.pieces.items() if place in self.rows}
        return tuple(pairs(self.source, matrices)) if self.source is not None else ()

    @property
    def matrices(self) -> Matrices:
        return self.fingerprint.matrices

    @property
    def is_full(self) -> bool:
        return self.fingerprint.about.level == "full"

    @property
    def is_change(self) -> bool:
        return is_change(self.fingerprint)

    @property
    def config(self) -> Mapping[str, Any]:
        """config.json, or what the fingerprint keeps of it."""
        return self.source.config if self.source is not None else self.fingerprint.about.config or {}

    def names(self, places: Collection[Place]) -> list[str]:
        """The tensors of these places, or the places in words where no names are at hand."""
        return list(dict.fromkeys(name for place in places for name in self._names(place)))

    def _names(self, place: Place) -> list[str]:
        piece = self.pieces.get(place)
        if piece is not None:
            return [view.tensor for view in piece.views]
        return [f"{place.component}, {f'layer {place.layer}, ' if place.layer >= 0 else ''}{place.family} {place.role}"]

    def unusual(self, code: str, sentence: str, tensors: Sequence[str], size: int | None = None) -> Unusual:
        """A finding about these tensors, of `size` bytes or of theirs."""
        if size is None and self.source is not None:
            known = [self.source.tensors[name].nbytes for name in tensors if name in self.source.tensors]
            size = sum(known) if known else None
        total = self.fingerprint.about.bytes_total
        share = min(1.0, round(size / total, 6)) if size is not None and total else None
        return Unusual(code, sentence, tuple(tensors[:NAMED]), len(tensors), size, share)


def counted(number: int, one: str, several: str = "") -> str:
    """`1 layer`, `3 layers`."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


@contextmanager
def examined(asked: Asked, how: HowToRead, listener: Listener) -> Iterator[Examined]:
    """A source, open while it is looked at. Raises SourceError, FingerprintError."""
    if not isinstance(asked, (str, os.PathLike)) or hub_id(os.fspath(asked)) or Path(asked).suffix == FINGERPRINT_SUFFIX:
        reading = reading_of(asked, how, listener)
        yield Examined(reading.fingerprint, reading.notes)
        return
    from modelkin_indexer.anatomy.parts import anatomy_of  # a written fingerprint does without the indexer's imports
    from modelkin_indexer.fingerprinting.indexing import fingerprint_source

    with closing(opened(existing(os.fspath(asked)), how)) as weights:
        done = listener.begin(weights.name, sum(info.nbytes for info in weights.tensors.values()))
        level = how.level or DEFAULT_LEVEL
        fingerprint = fingerprint_source(weights, level=level, key=how.key, threads=how.threads, progress=done, strict=how.strict)
        yield Examined(fingerprint, weights.notes, weights, anatomy_of(weights))
