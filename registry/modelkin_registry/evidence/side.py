"""One side of a comparison: a component of a model, with the fingerprint that it stands in."""

from __future__ import annotations

from msgspec import Struct

from modelkin_indexer.results.fingerprint import About, Fingerprint, Matrices, Vectors


class Side(Struct, frozen=True, eq=False):
    """A component of a fingerprint. The tables are the whole fingerprint's: rows of other components stand in them too."""

    fingerprint: Fingerprint
    component: str

    @property
    def about(self) -> About:
        return self.fingerprint.about

    @property
    def matrices(self) -> Matrices:
        return self.fingerprint.matrices

    @property
    def vectors(self) -> Vectors:
        return self.fingerprint.vectors

    @property
    def layers(self) -> int:
        """Number of layers of the component, 0 where it has none."""
        return self.about.layers.get(self.component, 0)

    @property
    def is_change(self) -> bool:
        """Whether this is of an adapter without its base: its vectors are those of changes."""
        return self.about.adapter is not None and not self.about.adapter.get("added")
