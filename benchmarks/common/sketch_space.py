"""Models made directly in sketch space: what an indexer would have measured of weights that never existed, at real sizes, in milliseconds.

Probe sketches are linear in the weights, so a child `child = parent + change` is made by adding sketches; its scale grows accordingly.
All models have the same shapes: every stranger is comparable with every other, which is the hard case for a search.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from modelkin_indexer import spec
from modelkin_indexer.places import Place
from modelkin_indexer.results.fingerprint import About, Experts, Fingerprint, Matrices, Vectors
from modelkin_indexer.sketch import top_block

Floats = npt.NDArray[np.float32]
ROLES = (
    ("attention", "q"),
    ("attention", "k"),
    ("attention", "v"),
    ("attention", "o"),
    ("mlp", "gate"),
    ("mlp", "up"),
    ("mlp", "down"),
)
TABLES = (("embedding", "token"), ("head", "token"))
NORMS = ("attention_input", "mlp_input")
LAYERS = {"text": 12, "vision": 6}
HIDDEN, INNER, KEYS, TOKENS = 2048, 5632, 512, 32000  # a small dense model with grouped keys and values
SHAPES = {"k": (KEYS, HIDDEN), "v": (KEYS, HIDDEN), "gate": (INNER, HIDDEN), "up": (INNER, HIDDEN), "down": (HIDDEN, INNER)}
MATRIX_DIGEST, VECTOR_DIGEST = 16, 8  # bytes
NORM_KEPT = 0.5  # norms move less than matrices: their cosine is the matrices' to this power


class Stack(Struct, frozen=True):
    """One component. `layers` (n, roles, 128), `tables` (token tables, 128), `norms` (n + 1, 2, 64; the last holds the final norm)."""

    layers: Floats
    tables: Floats
    norms: Floats

    def at_layers(self, order: Sequence[int]) -> Stack:
        """The same with layers dropped, repeated or re-ordered."""
        return Stack(self.layers[list(order)], self.tables, self.norms[[*order, -1]])

    def with_layer(self, at: int, donor: Stack, layer: int) -> Stack:
        """The same with the matrices of one layer taken from another model; norms stay."""
        layers = self.layers.copy()
        layers[at] = donor.layers[layer]
        return replace(self, layers=layers)


Model = dict[str, Stack]


def fresh(random: np.random.Generator, components: Sequence[str] = ("text",), *, layers: int | None = None) -> Model:
    """A model trained from scratch: independent sketches, rows of unit length."""
    return {name: _fresh_stack(random, layers or LAYERS[name], tables=name == "text") for name in components}


def _fresh_stack(random: np.random.Generator, layers: int, *, tables: bool) -> Stack:
    return Stack(
        _units(random, (layers, len(ROLES), spec.PROBE_NUMBERS)),
        _units(random, (len(TABLES) if tables else 0, spec.PROBE_NUMBERS)),
        _units(random, (layers + 1, len(NORMS), spec.VECTOR_NUMBERS)),
    )


def _units(random: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    values = random.standard_normal(shape, np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def child(random: np.random.Generator, parent: Model, cosine: float) -> Model:
    """Trained on from `parent`: parent plus independent changes, so that each tensor keeps about this cosine with it."""
    return {name: _child_stack(random, stack, cosine) for name, stack in parent.items()}


def _child_stack(random: np.random.Generator, stack: Stack, cosine: float) -> Stack:
    kept = cosine**NORM_KEPT
    return Stack(_moved(random, stack.layers, cosine), _moved(random, stack.tables, cosine), _moved(random, stack.norms, kept))


def _moved(random: np.random.Generator, values: Floats, cosine: float) -> Floats:
    change = _units(random, values.shape) * np.linalg.norm(values, axis=-1, keepdims=True)
    moved: Floats = values + np.float32(np.sqrt(1 / cosine**2 - 1)) * change
    return moved


def fingerprint(model: Model, random: np.random.Generator, *, full: bool = False) -> Fingerprint:
    """What the indexer would have stored. `full` adds gram and anchored sketches and digests (independent ones: for sizes only)."""
    matrices, vectors = _matrices(model, random, full), _vectors(model, random)
    parameters = int(matrices.parameters.sum() + vectors.length.sum())
    about = About(
        level="full" if full else "probe",
        key=spec.PUBLIC,
        parameters=parameters,
        coverage=1.0,
        bytes_total=2 * parameters,
        bytes_read=2 * parameters if full else parameters // 100,
        components=tuple(sorted(model)),
        layers={name: len(stack.layers) for name, stack in sorted(model.items())},
        dtypes={"BF16": parameters},
        constants={},
        config={"model_type": "llama", "hidden_size": HIDDEN, "vocab_size": TOKENS},
    )
    no_experts = Experts((), np.zeros(0, np.int32), np.zeros((0, 4 * spec.EXPERT_NUMBERS), np.float16), np.zeros((0, 4), np.uint64))
    return Fingerprint(about, matrices, vectors, no_experts)


def _matrices(model: Model, random: np.random.Generator, full: bool) -> Matrices:
    places = [place for name, stack in model.items() for place in _matrix_places(name, stack)]
    sketches = np.concatenate([part.reshape(-1, spec.PROBE_NUMBERS) for stack in model.values() for part in (stack.layers, stack.tables)])
    order = sorted(range(len(places)), key=places.__getitem__)
    places, sketches = [places[at] for at in order], sketches[order]
    count = len(places)
    shapes = np.array([(TOKENS, HIDDEN) if p.layer < 0 else SHAPES.get(p.role, (HIDDEN, HIDDEN)) for p in places], np.int32)
    scale = np.linalg.norm(sketches, axis=1)
    grams = [_units(random, (count, spec.GRAM_NUMBERS)) if full else np.zeros((count, 0)) for _ in range(2)]
    return Matrices(
        places=tuple(places),
        rows=shapes[:, 0],
        columns=shapes[:, 1],
        side=np.array([0 if p.layer < 0 else 2 if p.role in ("o", "down") else 1 for p in places], np.int8),
        experts=np.ones(count, np.int16),
        bits=np.full(count, 16, np.int8),
        mean=(1e-5 * random.standard_normal(count)).astype(np.float32),
        sd=random.uniform(0.01, 0.03, count).astype(np.float32),
        zeros=np.zeros(count, np.float16),
        distinct=random.uniform(0.6, 0.9, count).astype(np.float16),
        seen=np.full(count, 8, np.uint16),
        kurtosis=random.uniform(3, 5, count).astype(np.float16),
        column_spread=random.uniform(0.3, 0.4, count).astype(np.float16),
        row_spread=random.uniform(0.05, 0.2, count).astype(np.float16),
        spectrum=random.uniform(1, 5, count).astype(np.float16),
        scale=scale.astype(np.float32),
        probe=(sketches / scale[:, None]).astype(np.float16),
        top=np.array([top_block(spec.PUBLIC_KEY, *shape) for shape in shapes.tolist()], np.int8),
        gram=grams[0].astype(np.float16),
        anchored=grams[1].astype(np.float16),
        digest=_digests(random, count, MATRIX_DIGEST if full else 0),
        numbers=_sums(random, count, 2 if full else 0),
        blocks=_sums(random, count, spec.EIGHTHS + spec.PREFIXES if full else 0),
        readings=np.zeros((count, 0), np.int8),
    )


def _matrix_places(name: str, stack: Stack) -> list[Place]:
    layered = [Place(name, layer, family, role) for layer, (family, role) in product(range(len(stack.layers)), ROLES)]
    return layered + [Place(name, -1, family, role) for family, role in TABLES[: len(stack.tables)]]


def _vectors(model: Model, random: np.random.Generator) -> Vectors:
    places, sketches = [], []
    for name, stack in model.items():
        for layer, norms in enumerate(stack.norms[:-1]):
            places += [Place(name, layer, "norm", role) for role in NORMS]
            sketches += [*norms]
        places.append(Place(name, -1, "norm", "final"))
        sketches.append(stack.norms[-1, 0])
    order = sorted(range(len(places)), key=places.__getitem__)
    table = np.array(sketches)[order]
    scale, count = np.linalg.norm(table, axis=1), len(places)
    return Vectors(
        places=tuple(places[at] for at in order),
        length=np.full(count, HIDDEN, np.int32),
        mean=random.uniform(0.4, 1.2, count).astype(np.float32),
        sd=(scale / np.sqrt(HIDDEN)).astype(np.float32),
        scale=scale.astype(np.float32),
        sketch=(table / scale[:, None]).astype(np.float16),
        quantiles=np.sort(random.normal(1, 0.1, (count, spec.QUANTILES))).astype(np.float16),
        constant=np.zeros(count, np.bool_),
        digest=_digests(random, count, VECTOR_DIGEST),
    )


def _digests(random: np.random.Generator, count: int, width: int) -> npt.NDArray[np.uint8]:
    return random.integers(0, 256, (count, width), np.uint8)


def _sums(random: np.random.Generator, count: int, width: int) -> npt.NDArray[np.uint64]:
    return random.integers(0, 1 << 64, (count, width), np.uint64)


def dense_32_layers(random: np.random.Generator, *, full: bool) -> Fingerprint:
    """The shape that the size budget speaks of: 32 layers, embedding and head."""
    return fingerprint(fresh(random, layers=32), random, full=full)
