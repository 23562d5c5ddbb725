"""Small records for the tests of the store, the index and the doctor."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from modelkin_indexer import spec
from modelkin_indexer.places import Place
from modelkin_indexer.results import fingerprint
from modelkin_indexer.results.beside import Claim, SourceFile
from modelkin_indexer.results.fingerprint import About, Experts, Matrices, Vectors
from modelkin_registry.store.digests import content_digest
from modelkin_registry.store.records import NewModel
from modelkin_registry.store.rows import IndexRows

DIMS = 24


def units(seed: int, count: int, dims: int = DIMS) -> Any:
    values = np.random.default_rng(seed).standard_normal((count, dims)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def rows(seed: int, layers: int = 3) -> list[IndexRows]:
    """A dense and a coded kind, the dense one in two components."""
    return [
        IndexRows("sum/mlp", "text", (-1,), units(seed, 1)),
        IndexRows("sum/mlp", "vision", (-1,), units(seed + 10_000, 1)),
        IndexRows("layer/mlp", "text", tuple(range(layers)), units(seed + 20_000, layers)),
    ]


def record(name: str = "m", *, content: str = "", level: str = "probe", blob: bytes = b"", **changes: Any) -> NewModel:
    """A whole record with opaque bytes."""
    values: dict[str, Any] = {
        "name": name,
        "content": content or f"content of {name}",
        "level": level,
        "spec": spec.VERSION,
        "key": spec.PUBLIC,
        "parameters": 10,
        "bytes_total": 20,
        "coverage": 1.0,
        "about": {"components": ["text"]},
        "blob": blob or f"{name} {content} {level}".encode(errors="replace"),
        "files": (SourceFile("model.safetensors", 20, "d1"),),
        "who": "tester",
        "origin": f"/models/{name}",
        "claims": (Claim("base_model", "org/base", "config.json"),),
    }
    return NewModel(**(values | changes))


def real_fingerprint(seed: int, level: str = "probe") -> bytes:
    """A fingerprint that parses, with two matrices and nothing else."""
    about = About(level, spec.PUBLIC, 10, 1.0, 20, 20, ("text",), {"text": 2}, {"F32": 20})
    places = tuple(Place("text", layer, "mlp", "up") for layer in range(2))
    whole = ("rows", "columns", "side", "experts", "bits", "seen", "top")
    wide = ("places", "probe", "gram", "anchored", "digest", "numbers", "blocks", "readings")
    numbers = {one: np.ones(2, np.int32 if one in whole else np.float32) for one in Matrices.__struct_fields__ if one not in wide}
    sketches = {
        "probe": units(seed, 2, spec.PROBE_NUMBERS).astype(np.float16),
        "gram": np.zeros((2, 0), np.float16),
        "anchored": np.zeros((2, 0), np.float16),
    }
    sums = {name: np.zeros((2, 0), np.uint64) for name in ("numbers", "blocks")} | {"readings": np.zeros((2, 0), np.int8)}
    matrices = Matrices(places=places, **numbers, **sketches, **sums, digest=np.zeros((2, 16 if level == "full" else 0), np.uint8))
    nothing = np.zeros(0)
    sketch, quantiles, digest = (np.zeros((0, width)) for width in (spec.VECTOR_NUMBERS, spec.QUANTILES, 8))
    vectors = Vectors((), nothing, nothing, nothing, nothing, sketch, quantiles, nothing, digest)
    experts = Experts((), nothing, np.zeros((0, 4 * spec.EXPERT_NUMBERS)), np.zeros((0, 4), np.uint64))
    return fingerprint.Fingerprint(about, matrices, vectors, experts).to_bytes()


def rows_of(data: bytes) -> list[IndexRows]:
    """What the tests search real fingerprints by: a stand-in for the registry's own rows."""
    sketches = fingerprint.from_bytes(data).matrices.probe.astype(np.float32)
    sketches /= np.linalg.norm(sketches, axis=1, keepdims=True)
    return [IndexRows("sum/mlp", "text", (-1,), sketches[:1]), IndexRows("layer/mlp", "text", (0, 1), sketches)]


def real_record(name: str, seed: int) -> NewModel:
    """A whole record of a fingerprint that parses."""
    blob = real_fingerprint(seed)
    found = fingerprint.from_bytes(blob)
    return record(name, blob=blob, content=content_digest(found), about=msgspec.to_builtins(found.about))
