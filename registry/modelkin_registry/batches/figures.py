"""r, null and z of every family in every channel, of many pairs at once; what evidence/standing.py has of one pair and one family."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer.results.channels import CHANNELS
from modelkin_registry.batches.cosines import Block, Sides, matrix_blocks, vector_blocks
from modelkin_registry.batches.layouts import is_informative, layout_of
from modelkin_registry.batches.mapping import LayerMaps
from modelkin_registry.batches.robust import crossing_rows, mismatch_nulls
from modelkin_registry.evidence.alignment import CHANNEL_R, may_hold_twins
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.evidence.places import ROTARY_NORMS, SHOWN_AS
from modelkin_registry.evidence.standing import FEWEST_LAYERS, LONE_R, STRONG_R, STRONG_SD

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


class Aligned(Struct, frozen=True):
    """A block on the layer map. `columns` (pairs, query layers): the counterpart's place; `there` (pairs, roles, query layers): whether
    there is a cosine; `cosines` these, 0 where there is none; `means` their nulls, `sds` (pairs, roles) the nulls' spreads.
    """

    block: Block
    columns: Ints
    there: Bools
    cosines: Floats
    means: Floats
    sds: Floats

    def rows(self) -> Ints:
        """Rows of the relatives' tables (pairs, roles, query layers)."""
        return np.asarray(self.block.relative_rows[np.arange(len(self.block.roles))[:, None], self.columns[:, None, :]], np.int64)


class Figures(Struct, frozen=True):
    """One family in one channel, of all pairs (pairs,): how many places, their mean cosine r, its null and z; 0 places where there is none.

    `strong`: whether r, and the places behind it, are enough for evidence. `certain`: places of the probe channel that stand out one by
    one, `close` those of |r| LONE_R; `rest_z`, `rest_squares`: sums over the z of all others of that channel, and over their squares.
    `parts` are the blocks, each with the roles of this family.
    """

    places: Ints
    r: Floats
    null_mean: Floats
    null_sd: Floats
    z: Floats
    strong: Bools
    certain: Ints
    close: Ints
    rest_z: Floats
    rest_squares: Floats
    parts: tuple[tuple[Aligned, tuple[int, ...]], ...]


class Measured(Struct, frozen=True):
    """What pairs of one layout each measure of each other in one pair of components.

    `families` by family and channel ("vector" for vectors); `comparable` (pairs,): informative parameters with something of equal shape;
    `apart`: pairs that have to be looked at one by one; `maps` their layer maps.
    """

    families: dict[tuple[str, str], Figures]
    comparable: Ints
    apart: Bools
    maps: LayerMaps
    aligned: tuple[Aligned, ...]

    @property
    def in_place(self) -> Bools:
        """Pairs whose layers all have their counterparts at their own numbers."""
        return self.maps.in_place

    def by_family(self) -> dict[tuple[str, str], list[tuple[Aligned, list[int]]]]:
        """Blocks by channel and family, each with the roles of it; vectors stand in the probe channel."""
        found: dict[tuple[str, str], list[tuple[Aligned, list[int]]]] = defaultdict(list)
        for aligned in self.aligned:
            of_family: dict[str, list[int]] = defaultdict(list)
            for at, (family, _) in enumerate(aligned.block.roles):
                of_family[SHOWN_AS.get(family, family)].append(at)
            channel = "probe" if aligned.block.channel == "vector" else aligned.block.channel
            for family, roles in of_family.items():
                found[channel, family].append((aligned, roles))
        return found


def measure(sides: Sides, judge: Judge) -> Measured:
    """Measure pairs, each on the layer map that it shows itself."""
    blocks, apart = matrix_blocks(sides)
    maps = LayerMaps(blocks, sides.count)
    for block in blocks:
        if block.channel == "probe":  # layers that stand twice in a model are told one by one
            apart |= may_hold_twins(block.cosines, maps.matched(block)[:, None]).any(axis=1)
    aligned = tuple(_aligned(block, maps) for block in (*blocks, *vector_blocks(sides)))
    groups: dict[tuple[str, str], list[tuple[Aligned, tuple[int, ...]]]] = defaultdict(list)
    for one in aligned:
        of_family: dict[str, list[int]] = defaultdict(list)
        for at, (family, _) in enumerate(one.block.roles):
            of_family[SHOWN_AS.get(family, family)].append(at)
        for family, roles in of_family.items():
            groups[family, one.block.channel].append((one, tuple(roles)))
    families = {key: _figures(*key, _counted(parts), judge, sides) for key, parts in sorted(groups.items())}
    return Measured(families, _comparable(blocks, sides), apart, maps, aligned)


def _aligned(block: Block, maps: LayerMaps) -> Aligned:
    matched = maps.matched(block)
    columns = matched.argmax(axis=2)
    cosines = np.take_along_axis(block.cosines, columns[:, None, :, None], axis=3)[..., 0]
    there = np.asarray(matched.any(axis=2))[:, None] & np.isfinite(cosines)
    if block.channel in ("probe", "vector"):
        middle, sds = mismatch_nulls(block.cosines, matched, block.noise)
        means = np.broadcast_to(middle[:, :, None], cosines.shape)
    else:
        cells, sds = crossing_rows(block.cosines, matched, block.noise)
        means = np.take_along_axis(cells, columns[:, None, :, None], axis=3)[..., 0]
    return Aligned(block, columns, there, np.where(there, cosines, 0.0), means, sds)


def _counted(parts: Sequence[tuple[Aligned, tuple[int, ...]]]) -> tuple[tuple[Aligned, tuple[int, ...]], ...]:
    """Of norms those that do not learn the rotary pattern, if there are others."""
    kept = [(aligned, tuple(at for at in roles if aligned.block.roles[at][1] not in ROTARY_NORMS)) for aligned, roles in parts]
    kept = [(aligned, roles) for aligned, roles in kept if roles]
    vectors = parts[0][0].block.channel == "vector"
    return tuple(kept) if vectors and kept else tuple(parts)


def _figures(family: str, channel: str, parts: Sequence[tuple[Aligned, tuple[int, ...]]], judge: Judge, sides: Sides) -> Figures:
    pairs = sides.count
    shown = "probe" if channel == "vector" else channel
    between = judge.between_models(family, shown)
    whole = _Sums(pairs)
    apart = _Sums(pairs)  # in gram and anchored those that have other layers to stand out from
    certain, close = np.zeros(pairs, np.int64), np.zeros(pairs, np.int64)
    rest_z, rest_squares = np.zeros(pairs), np.zeros(pairs)
    layers: dict[int, Bools] = defaultdict(lambda: np.zeros(pairs, np.bool_))
    same = np.ones(pairs, np.bool_)
    for aligned, roles in parts:
        at = list(roles)
        there, cosines, means, sds = aligned.there[:, at], aligned.cosines[:, at], aligned.means[:, at], aligned.sds[:, at]
        whole.add(there, cosines, means, sds)
        if channel == "probe":
            each = np.where(there, (cosines - means) / np.hypot(sds, between)[:, :, None], 0.0)
            alone = there & (np.abs(each) >= STRONG_SD) & (np.abs(cosines) >= STRONG_R)
            certain += alone.sum(axis=(1, 2))
            close += (there & (np.abs(cosines) >= LONE_R)).sum(axis=(1, 2))
            rest = np.where(alone, 0.0, each)
            rest_z, rest_squares = rest_z + rest.sum(axis=(1, 2)), rest_squares + (rest**2).sum(axis=(1, 2))
        elif channel != "vector":
            beside = there & (means != 0.0)
            apart.add(beside, cosines, means, sds)
            for layer, number in enumerate(aligned.block.query_layers.tolist()):
                layers[number] |= (beside[:, :, layer] & (cosines[:, :, layer] >= CHANNEL_R[channel])).any(axis=1)
            same &= _same_numbers(aligned, at, sides)
    places, r, null_mean, within = apart.told_or(whole)
    own = judge.strangers.get((family, shown), 0.0)
    null_sd = np.sqrt(within**2 + np.maximum(between, np.sqrt(np.maximum(own**2 - within**2, 0.0))) ** 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = (r - null_mean) / null_sd
    signed = np.abs(r) if shown == "probe" else r
    strong = (whole.count > 0) & (signed >= CHANNEL_R[shown])
    if channel not in ("probe", "vector"):
        strong &= same | (np.sum(list(layers.values()), axis=0) >= FEWEST_LAYERS)
    z = np.where(places > 0, z, 0.0)
    return Figures(whole.count, r, null_mean, null_sd, z, strong, certain, close, rest_z, rest_squares, tuple(parts))


class _Sums:
    """Sums over places, of all pairs."""

    def __init__(self, pairs: int) -> None:
        self.count = np.zeros(pairs, np.int64)
        self.cosines, self.means, self.squares = (np.zeros(pairs) for _ in range(3))

    def add(self, there: Bools, cosines: Floats, means: Floats, sds: Floats) -> None:
        """More places: (pairs, roles, layers), and (pairs, roles) of `sds`."""
        self.count += there.sum(axis=(1, 2))
        self.cosines += np.where(there, cosines, 0.0).sum(axis=(1, 2))
        self.means += np.where(there, means, 0.0).sum(axis=(1, 2))
        self.squares += (there.sum(axis=2) * sds**2).sum(axis=1)

    def told_or(self, other: _Sums) -> tuple[Ints, Floats, Floats, Floats]:
        """Places, r, the null's mean and its spread within models; of pairs that have none here those of `other`."""
        own = self.count > 0
        count = np.where(own, self.count, other.count)
        sums = [np.where(own, mine, theirs) for mine, theirs in zip(self._all(), other._all(), strict=True)]
        most = np.maximum(count, 1)
        return count, sums[0] / most, sums[1] / most, np.sqrt(sums[2]) / most

    def _all(self) -> tuple[Floats, Floats, Floats]:
        return self.cosines, self.means, self.squares


def _same_numbers(aligned: Aligned, roles: Sequence[int], sides: Sides) -> Bools:
    """Whether all of these places hold the same numbers on both sides, whatever the order of rows and columns (level full)."""
    tables = sides.query.models[0].matrices, sides.relative.models[0].matrices
    if not all(table.numbers.shape[1] for table in tables):
        return np.zeros(sides.count, np.bool_)
    ours = sides.query.matrices("numbers")[sides.query.at[:, None, None], aligned.block.query_rows[roles]]
    theirs = sides.relative.matrices("numbers")[sides.relative.at[:, None, None], aligned.rows()[:, roles]]
    return np.asarray(((ours == theirs).all(axis=3) | ~aligned.there[:, roles]).all(axis=(1, 2)), np.bool_)


def _comparable(blocks: Iterable[Block], sides: Sides) -> Ints:
    """Informative parameters of the query that have something of equal shape to be held against, in any layer and channel."""
    parameters = layout_of(sides.query.models[0]).parameters
    met = np.zeros((sides.count, len(parameters)), np.bool_)
    for block in blocks:
        roles = [at for at, (family, _) in enumerate(block.roles) if is_informative(family)]
        met[:, block.query_rows[roles]] |= np.isfinite(block.cosines[:, roles]).any(axis=3)
    return np.asarray(met @ parameters, np.int64)


def channels_of(families: dict[tuple[str, str], Figures], family: str) -> list[str]:
    """The channels in which a family was measured, in their order."""
    return [channel for channel in CHANNELS if (family, channel) in families]
