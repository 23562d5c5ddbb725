"""Which pairs of models are held against each other for a tree: what the index finds nearest to each.

Whole models are found by their families' sums. Rows of single layers, a dozen a model and more, find what only lies in some layers of
another: they are asked for where no whole model explains all of a model's parts, and for one model of each family.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from modelkin_registry.search.candidates import REVISIONS, find_candidates_of_many
from modelkin_registry.trees.pairs.measurer import Measurer
from modelkin_registry.trees.parentage import may_come_whole

CANDIDATES = 12  # models of the index that each one is held against: in a family of 40 its base was always among the nearest 5 (trees.json)
AT_ONCE = 256  # models whose candidates are asked for together


class Nearest:
    """The models that the index holds nearest to each, asked for once."""

    def __init__(self, measurer: Measurer) -> None:
        self._measurer = measurer
        self._found: dict[str, list[str]] = {}
        self._layered: set[str] = set()

    def of(self, name: str) -> list[str]:
        """The nearest of one model, best first."""
        self.find([name])
        return self._found[name]

    def find(self, names: Sequence[str], *, layered: bool = False) -> None:
        """Ask the index for the nearest of several models at once, of those that were not asked for before; `layered`: by layers too."""
        known: Collection[str] = self._layered if layered else self._found
        names = [name for name in names if name not in known]
        for start in range(0, len(names), AT_ONCE):
            self._find(names[start : start + AT_ONCE], layered)

    def _find(self, names: Sequence[str], layered: bool) -> None:
        measurer = self._measurer
        found = find_candidates_of_many(
            measurer.known.index,
            [measurer.fingerprint(name) for name in names],
            limit=REVISIONS * (CANDIDATES + 1),
            nearest=0,
            layered=layered,
        )
        measurer.look_up(number for numbers in found for number in numbers)
        for name, numbers in zip(names, found, strict=True):
            nearest = dict.fromkeys(called for number in numbers if (called := measurer.names.get(number)) is not None)
            self._found[name] = [other for other in nearest if other != name][:CANDIDATES]
        self._layered |= {*names} if layered else set()

    def unexplained(self, names: Iterable[str]) -> list[str]:
        """Models to ask for by their layers too: those that no whole model explains, and the middle one of each family."""
        measurer, found = self._measurer, []
        for family in measurer.families(names):
            alone = [name for name in family if not may_come_whole(name, measurer.links_of(name), measurer.facts(name).parts)]
            middle = min(family, key=lambda name: (-len(measurer.near[name]), name))
            found += alone if middle in alone or self._layered.intersection(family) else [*alone, middle]
        return [name for name in found if name not in self._layered]
