"""Numbers of models and revisions of several registries, apart from one another: that of one registry times their count, and its place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable


class Numbers:
    """Numbers of so many registries."""

    def __init__(self, registries: int) -> None:
        self.count = registries

    def of(self, place: int, number: int) -> int:
        """The number, among all, of one in the registry at a place."""
        return number * self.count + place

    def apart(self, number: int) -> tuple[int, int]:
        """The place of the registry that a number is of, and the number there."""
        own, place = divmod(number, self.count)
        return place, own

    def by_place(self, numbers: Iterable[int]) -> dict[int, list[int]]:
        """The numbers there, by place."""
        found: dict[int, list[int]] = defaultdict(list)
        for number in numbers:
            place, own = self.apart(number)
            found[place].append(own)
        return dict(sorted(found.items()))
