"""What an exact comparison yields: plain values about pairs of tensors. No judgement here: the registry has the nulls."""

from __future__ import annotations

from msgspec import Struct


class DeltaSpectrum(Struct, frozen=True):
    """The largest singular values of B - A, and how many of them stand out of the rest.

    Shows a low-rank change, as a merged LoRA makes it, with its rank. Says nothing of pairs that are not related: it is left out there.
    `rank` counts values above the edge that noise of the remaining energy would reach; `saturated` says that there may be more than were
    looked for. `stable_rank` is (sum of squares) / (largest square). `captured` is the share of the energy in the `rank` values;
    `left_over_rounding` is the remaining energy in units of what rounding to the coarser type leaves.
    """

    values: tuple[float, ...]
    rank: int
    saturated: bool
    stable_rank: float
    captured: float
    left_over_rounding: float | None
    rows: int
    columns: int


class TensorComparison(Struct, frozen=True):
    """A tensor of A against its counterpart in B, from every common number of both. None: could not be computed.

    cosine              raw; for vectors far from 0, such as norm gains, it measures their means: see `cosine_floor`.
    cosine_floor        m1 m2 / sqrt((m1^2 + s1^2)(m2^2 + s2^2)): the cosine that means and spreads alone give, whatever the vectors hold.
    pearson             the centred cosine: does the one vector's pattern return in the other? 0 between strangers. Blind to permutations.
    channel_t, channels Student's t of the contributions of the single channels of the residual stream to the centred product, and their
                        number. Strangers' channels have no common order, so contributions scatter around 0 whatever else is alike.
    permutations        sampled permutations of B's channels (vectors only, else 0), and how often they reached the |pearson| seen.
    relative_l2         |B - A| / |A|: 1.41 for strangers of equal size; for gains it measures their means. Small values are telling only
                        for matrices.
    equal_fraction      share of bit-equal values. Strangers: near 0; constant and coarse values (norms of few distinct values) more.
    half_unit_fraction  share of values that differ by at most half a unit of the coarser type: 1 for a mere change of type.
    mean/p99_abs_difference   sizes of changes, in the weights' own units: no evidence, small between strangers of small spread.
    cv_difference       of the coefficients of variation: near 0 between any two trained norms; a small one says nothing.
    variance_ratio      of B over A. Alike between models of one recipe: says nothing of descent.
    wasserstein         Wasserstein-1 distance of the two sets of values, in units of A's spread; kolmogorov the largest distance of their
                        distribution functions. Blind to which value sits where: two trainings of one recipe come close to 0.
    distribution_error  bound on the error of `kolmogorov` (the fullest bin's share); 0 where values were sorted or bins are exact.
    """

    a: str
    b: str
    component: str
    layer: int
    layer_b: int
    family: str
    role: str
    n: int
    dtype_a: str
    dtype_b: str
    mean_a: float
    sd_a: float
    mean_b: float
    sd_b: float
    cosine: float | None
    cosine_floor: float | None
    pearson: float | None
    channel_t: float | None
    channels: int
    permutations: int
    exceeded: int
    relative_l2: float | None
    equal_fraction: float
    half_unit_fraction: float
    mean_abs_difference: float
    p99_abs_difference: float
    cv_difference: float | None
    variance_ratio: float | None
    wasserstein: float | None
    kolmogorov: float
    distribution_error: float
    delta: DeltaSpectrum | None = None


class NotCompared(Struct, frozen=True):
    """A place without a comparison, and why."""

    component: str
    layer: int
    family: str
    role: str
    tensor: str
    reason: str


class LayerMatrix(Struct, frozen=True):
    """Every layer of one side against every layer of another, for one role. `sides` is "a-b", "a-a" or "b-b".

    `numbers` were compared of each layer, out of `of`; rows of `cosine` and `pearson` are `layers`, columns `other_layers`.
    """

    sides: str
    component: str
    family: str
    role: str
    numbers: int
    of: int
    layers: tuple[int, ...]
    other_layers: tuple[int, ...]
    cosine: tuple[tuple[float, ...], ...]
    pearson: tuple[tuple[float, ...], ...]


class ExactReading(Struct, frozen=True):
    """All that was measured between two sources.

    `mismatched` are places of A against the next layer of B, `within` against the next layer of A itself, both on samples: what two
    tensors of one role have in common without being counterparts.
    """

    pairs: tuple[TensorComparison, ...]
    not_compared: tuple[NotCompared, ...]
    mismatched: tuple[TensorComparison, ...]
    within: tuple[TensorComparison, ...]
    matrices: tuple[LayerMatrix, ...]
