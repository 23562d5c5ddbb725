"""The models and questions of the search benchmark, each a pure function of its number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle, islice

import numpy as np
from msgspec import Struct

from benchmarks.common import sketch_space
from benchmarks.common.sketch_space import Model, child, fresh
from modelkin_indexer.results.fingerprint import Fingerprint

SEED = 20_260
LONE_SHARE = 0.6  # models without any relative in the registry
BIG_SHARE = 0.02  # models in BIG_FAMILIES families of a popular base each
BIG_FAMILIES = 4
FAMILY = 40  # models of an ordinary family, its base included
FARTHEST, NEAREST = 0.5, 0.999  # cosine of a family's members with their base
REARRANGED = 10  # every tenth member has layers dropped or repeated
SEEING = 10  # every tenth lone model has a vision component
NEARLY = 0.01  # a relative this much nearer or farther in true cosine than the expected one counts as it: sketches cannot tell

KINDS = (
    "fine-tune of a family's member",
    "copy of a lone model, cosine 0.7",
    "copy of a lone model, cosine 0.5",
    "copy of a lone model, cosine 0.3",
    "layers dropped and repeated",
    "one component reused",
    "one layer reused",
    "stranger",
)


class Query(Struct, frozen=True):
    """A question and the names of the models any of which is a right first answer; None where nothing may be found."""

    kind: str
    fingerprint: Fingerprint
    expected: frozenset[str] | None


class Zoo:
    """`count` models: families first, then lone ones."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.big = max(int(count * BIG_SHARE) // BIG_FAMILIES, 1)
        self.lone_from = count - int(count * LONE_SHARE)

    def name(self, number: int) -> str:
        """What the model is called."""
        return f"model-{number:06d}"

    def is_lone(self, number: int) -> bool:
        """Whether no other model of the zoo is related to it."""
        return number >= self.lone_from

    def base_of(self, number: int) -> int:
        """The first model of its family."""
        if self.is_lone(number):
            return number
        in_big = self.big * BIG_FAMILIES
        return number // self.big * self.big if number < in_big else in_big + (number - in_big) // FAMILY * FAMILY

    def cosine_to_base(self, number: int) -> float:
        """How near a member is to its base, spread evenly in the logarithm of the distance."""
        if self.base_of(number) == number:
            return 1.0
        share = np.random.default_rng([SEED, 1, number]).uniform()
        return float(1 - (1 - FARTHEST) * ((1 - NEAREST) / (1 - FARTHEST)) ** share)

    def model(self, number: int) -> Model:
        """The model in sketch space."""
        random = np.random.default_rng([SEED, 2, number])
        base = self.base_of(number)
        if base == number:
            return fresh(random, ("text", "vision") if self.sees(number) else ("text",))
        made = child(random, self.model(base), self.cosine_to_base(number))
        return rearranged(made, random) if self.is_rearranged(number) else made

    def sees(self, number: int) -> bool:
        """Whether it has a vision component."""
        return self.is_lone(number) and number % SEEING == 0

    def is_rearranged(self, number: int) -> bool:
        """Whether its layers are not those of its base."""
        return number % REARRANGED == 3 and self.base_of(number) != number

    def fingerprint(self, number: int) -> Fingerprint:
        """What the registry gets."""
        return sketch_space.fingerprint(self.model(number), np.random.default_rng([SEED, 3, number]))


def rearranged(model: Model, random: np.random.Generator) -> Model:
    """Two layers dropped and a run of three repeated."""
    layers = len(model["text"].layers)
    order = sorted(random.choice(layers, layers - 2, replace=False).tolist())
    start = int(random.integers(0, len(order) - 3))
    order[start:start] = order[start : start + 3]
    return model | {"text": model["text"].at_layers(order)}


def make_queries(zoo: Zoo, models: int, count: int) -> Iterator[Query]:
    """`count` questions about the first `models` models, the kinds taking turns."""
    makers: tuple[Callable[[Zoo, np.random.Generator], tuple[Model, frozenset[str] | None]], ...] = (
        _fine_tune,
        lambda zoo, random: _copy(zoo, random, 0.7),
        lambda zoo, random: _copy(zoo, random, 0.5),
        lambda zoo, random: _copy(zoo, random, 0.3),
        _depth_changed,
        _component,
        _layer,
        _stranger,
    )
    for number, (kind, make) in enumerate(islice(cycle(zip(KINDS, makers, strict=True)), count)):
        random = np.random.default_rng([SEED, 4, models, number])
        model, expected = make(zoo, random)
        yield Query(kind, sketch_space.fingerprint(model, random), expected)


def _lone(zoo: Zoo, random: np.random.Generator) -> int:
    return int(random.integers(zoo.lone_from, zoo.count))


def _copy(zoo: Zoo, random: np.random.Generator, cosine: float) -> tuple[Model, frozenset[str]]:
    number = _lone(zoo, random)
    return child(random, zoo.model(number), cosine), frozenset({zoo.name(number)})


def _fine_tune(zoo: Zoo, random: np.random.Generator) -> tuple[Model, frozenset[str]]:
    """Of a member with the layers of its base; right is any member whose true cosine is that of the parent, or nearly."""
    number = int(random.integers(0, zoo.lone_from))
    while zoo.is_rearranged(number):
        number = int(random.integers(0, zoo.lone_from))
    cosine, base, own = 0.95, zoo.base_of(number), zoo.cosine_to_base(number)
    members = [other for other in range(base, min(base + max(zoo.big, FAMILY), zoo.lone_from)) if zoo.base_of(other) == base]
    near = {other for other in members if cosine * (1 - own * zoo.cosine_to_base(other)) <= NEARLY and not zoo.is_rearranged(other)}
    return child(random, zoo.model(number), cosine), frozenset(map(zoo.name, near | {number}))


def _depth_changed(zoo: Zoo, random: np.random.Generator) -> tuple[Model, frozenset[str]]:
    number = _lone(zoo, random)
    return rearranged(child(random, zoo.model(number), 0.9), random), frozenset({zoo.name(number)})


def _component(zoo: Zoo, random: np.random.Generator) -> tuple[Model, frozenset[str]]:
    number = _lone(zoo, random) // SEEING * SEEING
    while not zoo.sees(number):
        number += SEEING
    donor = child(random, {"vision": zoo.model(number)["vision"]}, 0.95)
    return fresh(random) | donor, frozenset({zoo.name(number)})


def _layer(zoo: Zoo, random: np.random.Generator) -> tuple[Model, frozenset[str]]:
    number = _lone(zoo, random)
    model, donor = fresh(random), zoo.model(number)["text"]
    at, layer = random.choice(len(donor.layers), 2, replace=False).tolist()
    return {"text": model["text"].with_layer(at, donor, layer)}, frozenset({zoo.name(number)})


def _stranger(zoo: Zoo, random: np.random.Generator) -> tuple[Model, None]:
    return fresh(random, ("text", "vision")), None
