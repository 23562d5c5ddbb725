"""The fingerprint: all vectors of one model under one spec and one key, an immutable value with a one-file form.

The file form is a safetensors file: arrays under plain names, everything else as JSON in the metadata. Same fingerprint, same bytes.
"""

from __future__ import annotations

import base64
import json
import zlib
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from msgspec import Struct, to_builtins
from safetensors import SafetensorError

from modelkin_indexer import spec
from modelkin_indexer.errors import FingerprintError
from modelkin_indexer.places import Place
from modelkin_indexer.results import channels, checks

Array = npt.NDArray[Any]
EXPERT_ROLES = ("gate", "up", "down", "router")  # slots of a single expert's vector
SIDES = ("none", "in", "out")
METADATA_KEY = "modelkin fingerprint"
KNOWN_LAYOUTS = 256  # tuples of places kept: most models of a registry are laid out like many others
Sketches = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]  # rows, and their lengths


UNDECODED = ", not decoded"
NOT_FINITE = "values that are no finite numbers"  # how damaged tensors are told in `unread`


class About(Struct, frozen=True):
    """What is known of the model beside its vectors.

    `constants` maps tensors that were left out as never evidence (buffers, tables, untouched constants) to the reason; `unplaced` are
    names whose place is unknown; `coverage` is bytes with a place / bytes of weights, `guessed` the part of these whose family is a guess
    from their shapes, since neither tables nor words of their names tell it; `quantization` names how the weights are stored where not
    as plain numbers (else ""), and ends with UNDECODED where their values could not be decoded; `config` is the small part of
    config.json that tells the structure apart; `adapter` says of a low-rank adapter its `kind`, `rank`, the `base` that it
    declares, and whether it was `added` to a base; if not, the vectors are those of the changes alone, `parameters` above those of the
    matrices changed, and `parameters` in it the numbers that the adapter itself holds. None for other models.
    `unread` tells what was not decoded, not understood or is no number, each with its `bytes` as stored, and `what` in words ("MLX,
    4 bits", "... row 3 of lm_head.weight"); it counts against `coverage`. `shards`: (read, all) where only some of a model's shards were.
    """

    level: str
    key: str
    parameters: int
    coverage: float
    bytes_total: int
    bytes_read: int
    components: tuple[str, ...]
    layers: dict[str, int]
    dtypes: dict[str, int]
    unplaced: tuple[str, ...] = ()
    constants: dict[str, str] | None = None
    quantization: str = ""
    adapter: dict[str, Any] | None = None
    config: dict[str, Any] | None = None
    guessed: float = 0.0
    unread: tuple[dict[str, Any], ...] = ()
    shards: tuple[int, int] | None = None
    spec: str = spec.VERSION


class Matrices(Struct, frozen=True, dict=True):
    """One row a matrix place, sorted by place. Sketches are unit vectors in float16 (all zero where there is nothing to say).

    rows, columns   oriented shape [out, in]; experts stacked to [experts x out, in]
    side            which side faces the residual stream: 0 none, 1 in (columns), 2 out (rows of one matrix of a stack)
    experts         matrices stacked in one place (1 but for experts)
    bits            bits a stored number has
    mean, sd        of all values (level full), else of the sampled rows
    zeros           share of exact zeros in the sampled rows
    distinct        share of distinct magnitudes in short runs of the sampled rows: low where values lie on a quantiser's grid
    seen            rows that the next two rest on: those sampled (level probe), else all of them or an even share; zeros left out
    kurtosis        of their values
    column_spread   standard deviation of the logarithms of the columns' norms, over those rows; NaN where none or one is not zero
    row_spread      the same of the rows' norms, over all rows (level full), else over the sampled ones
    spectrum        how far from white: 1.0 for independent numbers, with the nulls of `start_nulls.py`; NaN where nothing can be said
    scale           L2 norm of the centred sampled rows, so that scale * probe is linear in the weights
    probe           (n, 128)
    top             number of the last block of rows in `probe` (`sketch.top_block`), which tells what sketches of unequal heights share
    gram, anchored  (n, 136); level full only, else no columns
    digest          (n, 16) bytes of the values in canonical order; level full only, else no columns
    numbers         (n, 2) uint64: digests of the values whatever the order of rows and of columns; level full only, else no columns.
                    [0] is a sum over rows, [1] the same of the transpose, so a matrix turned round has them exchanged. Sums of digests
                    are the digest of the parts put together: [0] of parts one above the other, [1] of parts side by side.
                    Stored types do not matter, only values as float32; rows and columns of zeros add nothing. No proof against a forger
    blocks          (n, 10) uint64: the sum over rows of each eighth of the rows, then of the first 2^k and 2^(k-1) rows, 2^k the largest
                    power that fits; level full only, else no columns
    readings        (n, tables x 2 x 136) int8, each proportional to what the anchored channel is if that table holds the tokens, and the
                    columns or else the rows face the residual stream; zeros where that cannot be. Of level full of models whose names tell
                    nothing, else no columns: they have no anchored sketches
    """

    places: tuple[Place, ...]
    rows: Array
    columns: Array
    side: Array
    experts: Array
    bits: Array
    mean: Array
    sd: Array
    zeros: Array
    distinct: Array
    seen: Array
    kurtosis: Array
    column_spread: Array
    row_spread: Array
    spectrum: Array
    scale: Array
    probe: Array
    top: Array
    gram: Array
    anchored: Array
    digest: Array
    numbers: Array
    blocks: Array
    readings: Array

    def __len__(self) -> int:
        return len(self.places)

    @cached_property
    def sketches(self) -> dict[str, Sketches]:
        """Each channel's sketches ready for arithmetic, made once."""
        stored = ((one, getattr(self, one.name)) for one in channels.TABLE)
        return {one.name: _ready(one.compared(column) if column.shape[1] else column) for one, column in stored}

    @cached_property
    def parameters(self) -> Array:
        """Numbers stored in each place."""
        return self.rows.astype(np.int64) * self.columns

    @cached_property
    def worked_out(self) -> dict[Any, Any]:
        """What was worked out of single rows and is asked for again with every model that these are held against."""
        return {}


class Vectors(Struct, frozen=True, dict=True):
    """One row a norm, bias or other vector, sorted by place; these are always read whole.

    sketch     (n, 48) keyed sketch of the centred vector, unit length, float16
    scale      L2 norm of the centred vector
    quantiles  (n, 9) sorted quantiles
    constant   True where all values are equal (an untouched gain or bias): never evidence
    digest     (n, 8) bytes of the values
    """

    places: tuple[Place, ...]
    length: Array
    mean: Array
    sd: Array
    scale: Array
    sketch: Array
    quantiles: Array
    constant: Array
    digest: Array

    def __len__(self) -> int:
        return len(self.places)

    @cached_property
    def sketches(self) -> Sketches:
        """The sketches ready for arithmetic, made once."""
        return _ready(self.sketch)

    @cached_property
    def worked_out(self) -> dict[Any, Any]:
        """As of the matrices."""
        return {}


class Experts(Struct, frozen=True):
    """One row a single expert (level full): component and layer as in `places`, `expert` its number.

    sketch   (n, slots * 32): one unit slot a role in the fixed order of EXPERT_ROLES, zero where the role is missing. Of a matrix it is
             `sketch.folded` of the probe sketch that the expert has as a matrix by itself
    numbers  (n, slots) uint64: the sum over rows of each role, as `Matrices.numbers[0]`; 0 where the role is missing
    """

    places: tuple[Place, ...]
    expert: Array
    sketch: Array
    numbers: Array

    def __len__(self) -> int:
        return len(self.places)


class Fingerprint(Struct, frozen=True, dict=True):
    """All vectors of one model. Compare two only if `spec` and `key` agree (`check_comparable`)."""

    about: About
    matrices: Matrices
    vectors: Vectors
    experts: Experts

    @cached_property
    def worked_out(self) -> dict[Any, Any]:
        """As of the matrices: what follows from several tables."""
        return {}

    def to_bytes(self) -> bytes:
        """The one-file form."""
        from_tables: dict[str, Array] = {}
        places: dict[str, list[list[Any]]] = {}
        for table in ("matrices", "vectors", "experts"):
            value = getattr(self, table)
            places[table] = _packed_places(value.places)
            for field in value.__struct_fields__:
                if field != "places" and getattr(value, field).size:  # each entry of the header costs 80 bytes
                    from_tables[f"{table}.{field}"] = np.ascontiguousarray(getattr(value, field))
        about = {name: value for name, value in to_builtins(self.about).items() if name not in ("adapter", "unread", "shards") or value}
        head = json.dumps({"about": about, "places": places}, sort_keys=True, separators=(",", ":")).encode()
        return safetensors.numpy.save(from_tables, {METADATA_KEY: base64.b85encode(zlib.compress(head, 9)).decode()})

    def save(self, path: str | Path) -> None:
        """Write the one-file form."""
        Path(path).write_bytes(self.to_bytes())


def from_bytes(data: bytes, origin: str | Path = "fingerprint") -> Fingerprint:
    """Read the one-file form. `origin` is what an error names.

    Raises:
        FingerprintError: damaged, or of a spec this version does not know.
    """
    try:
        head, arrays = _load(data)
        about = head["about"]
        if about["spec"] != spec.VERSION:
            raise FingerprintError(
                f"{origin}: made by spec {about['spec']!r}, this version reads spec {spec.VERSION!r}. Index the weights again: "
                "`modelkin upgrade` does it for the models of a registry."
            )
        for name in ("components", "unplaced", "unread"):
            about[name] = tuple(about.get(name, ()))
        about["shards"] = tuple(about["shards"]) if about.get("shards") else None
        tables = {name: _table(kind, name, head["places"][name], arrays) for name, kind in TABLES.items()}
        described = About(**about)
        checks.check(described, tables)
        return Fingerprint(described, **tables)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError, SafetensorError, zlib.error) as error:
        raise FingerprintError(f"{origin}: not a fingerprint, or a damaged one ({error}). Index the weights again.") from error


def weight_digests(data: bytes) -> set[bytes]:
    """Digests of the weights in the one-file form of whatever spec: those of all vectors, and at level full of all matrices.

    Raises:
        FingerprintError: damaged.
    """
    try:
        _, arrays = _load(data)
        return {row.tobytes() for name in ("vectors.digest", "matrices.digest") for row in arrays.get(name, ())}
    except (LookupError, TypeError, ValueError, RecursionError, SafetensorError, zlib.error) as error:
        raise FingerprintError(f"a damaged fingerprint ({error})") from error


def load(path: str | Path) -> Fingerprint:
    """Read a fingerprint from a file. Raises FingerprintError, OSError."""
    with Path(path).open("rb") as stream:
        return from_bytes(stream.read(checks.MAX_BYTES + 1), path)


TABLES: dict[str, type[Any]] = {"matrices": Matrices, "vectors": Vectors, "experts": Experts}


EMPTY_TYPES: dict[str, type[Any]] = {"numbers": np.uint64, "blocks": np.uint64, "digest": np.uint8, "readings": np.int8}
WIDTHS: dict[str, dict[str, tuple[int, ...]]] = {
    "matrices": {
        **{one.name: (0, one.numbers) if one.full else (one.numbers,) for one in channels.TABLE},
        "digest": (0, 16),
        "numbers": (0, 2),
        "blocks": (0, spec.EIGHTHS + spec.PREFIXES),
        "readings": tuple(2 * tables * spec.GRAM_NUMBERS for tables in range(3)),
    },
    "vectors": {"sketch": (spec.VECTOR_NUMBERS,), "quantiles": (spec.QUANTILES,), "digest": (8,)},
    "experts": {"sketch": (len(EXPERT_ROLES) * spec.EXPERT_NUMBERS,), "numbers": (len(EXPERT_ROLES),)},
}


def _table(kind: type[Any], name: str, places: list[list[Any]], arrays: dict[str, Array]) -> Any:
    columns: dict[str, Any] = {field: arrays.get(f"{name}.{field}") for field in kind.__struct_fields__ if field != "places"}
    columns |= {column: _empty(name, column, len(places)) for column, values in columns.items() if values is None}
    for column, values in columns.items():
        if values.shape[0] != len(places):
            raise ValueError(f"column {name}.{column} has {values.shape[0]} rows for {len(places)} places")
        values.setflags(write=False)
    for column, width in WIDTHS[name].items():
        if columns[column].ndim != 2 or columns[column].shape[1] not in width:
            raise ValueError(f"column {name}.{column} has shape {columns[column].shape}")
    return kind(places=_known_places(tuple(map(tuple, places))), **columns)


def _empty(table: str, column: str, count: int) -> Array:
    """What is not written: columns of no numbers, and those of tables without rows. Raises KeyError where there has to be more."""
    widths = WIDTHS[table].get(column, ())
    if count and 0 not in widths:
        raise KeyError(f"{table}.{column}")
    return np.zeros((count, *widths[:1]), EMPTY_TYPES.get(column, np.float16))


@lru_cache(maxsize=KNOWN_LAYOUTS)
def _known_places(places: tuple[tuple[Any, ...], ...]) -> tuple[Place, ...]:
    known = tuple(Place(*place) for place in places)
    for place in known:
        checks.check_place(place)
    return known


def _ready(sketches: npt.NDArray[np.floating[Any]]) -> Sketches:
    singles = sketches.astype(np.float32)
    return singles, np.linalg.norm(singles, axis=1)


def _packed_places(places: tuple[Place, ...]) -> list[list[Any]]:
    return [list(place) for place in places]


def _load(data: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    """Arrays by safetensors' own reader; the metadata, which its numpy face does not give, from the header."""
    checks.check_bytes(data)
    arrays = safetensors.numpy.load(data)
    length = int.from_bytes(data[:8], "little")
    packed = json.loads(data[8 : 8 + length])["__metadata__"][METADATA_KEY]
    head = zlib.decompressobj().decompress(base64.b85decode(packed), checks.MAX_HEAD)
    return checks.parsed(head), arrays
