"""Fingerprints with forged fields: refused by name, in bounded memory; and whatever passes can be stored, searched and compared."""

from __future__ import annotations

import base64
import copy
import json
import resource
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import models
from modelkin_indexer.errors import FingerprintError, ModelkinError
from modelkin_indexer.results import checks
from modelkin_indexer.results import fingerprint as fingerprints
from modelkin_indexer.results.fingerprint import METADATA_KEY, Fingerprint
from modelkin_registry.registry import Registry

Head = dict[str, Any]
Arrays = dict[str, Any]
Forge = Callable[[Head, Arrays, Any], None]


def mixture(seed: int) -> models.Tensors:
    """A small model with single experts, so that no table is empty."""
    tensors, rng = models.llama(seed, layers=2), np.random.default_rng(seed)
    width = tensors["model.layers.0.mlp.up_proj.weight"].shape[1]
    for layer in range(2):
        stem = f"model.layers.{layer}.block_sparse_moe"
        tensors[f"{stem}.gate.weight"] = rng.standard_normal((4, width)).astype(np.float32)
        for expert in range(4):
            for name, shape in (("w1", (64, width)), ("w3", (64, width)), ("w2", (width, 64))):
                tensors[f"{stem}.experts.{expert}.{name}.weight"] = rng.standard_normal(shape).astype(np.float32)
    return {name: values for name, values in tensors.items() if ".mlp." not in name}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Fingerprint:
    found = models.fingerprint(tmp_path_factory.mktemp("sound"), mixture(1))
    assert min(map(len, (found.matrices, found.vectors, found.experts))) > 0
    return found


def parts(found: Fingerprint) -> tuple[Head, Arrays]:
    data = found.to_bytes()
    packed = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"][METADATA_KEY]
    arrays = {name: values.copy() for name, values in safetensors.numpy.load(data).items()}
    return json.loads(zlib.decompress(base64.b85decode(packed))), arrays


def written(head: Any, arrays: Arrays) -> bytes:
    packed = json.dumps(head).encode() if not isinstance(head, bytes) else head
    return safetensors.numpy.save(arrays, {METADATA_KEY: base64.b85encode(zlib.compress(packed)).decode()})


def test_the_sound_one_passes(sound: Fingerprint) -> None:
    assert fingerprints.from_bytes(written(*parts(sound))).to_bytes() == sound.to_bytes()


NO_NUMBERS: tuple[Any, ...] = (-1, 1e9, float("nan"), float("inf"), -float("inf"), "1", None, [], {}, 1 << 80, True, [[1]])
NO_WORDS: tuple[Any, ...] = (1, None, [], {}, "x" * 5000, "\ud800", "a\nb")
NO_LISTS: tuple[Any, ...] = ("", "text", 1, None, {"a": 1}, [1], ["\ud800"], ["x" * 5000], ["Text"], ["text", "text"], ["vision"])
NO_MAPS: tuple[Any, ...] = (
    *(1, "a", ["a"]),
    *({"a": float("nan")}, {"a": -1}, {"a": "x" * 5000}, {"a": {"b": 1}}, {"x" * 5000: 1}, {"\ud800": 1}),
)
MANY_FIELDS = dict.fromkeys(map(str, range(99)), 1)
ABOUT: dict[str, tuple[Any, ...]] = {
    "level": ("", "half", 1, None, ["full"], "probe"),
    "key": NO_WORDS,
    "spec": (*NO_WORDS, "0", "99"),
    "parameters": (*NO_NUMBERS, 1, 1.5),
    "bytes_total": (*NO_NUMBERS[:1], *NO_NUMBERS[2:], 1.5),
    "bytes_read": (*NO_NUMBERS[:1], *NO_NUMBERS[2:], 1.5),
    "coverage": (*NO_NUMBERS, 1.0001, -1e-9),
    "guessed": (*NO_NUMBERS, 1.0001),
    "components": (*NO_LISTS, ["text", "vision"], []),
    "unplaced": (1, None, [1], ["\ud800"], ["x" * 5000], [["a"]]),
    "layers": (*NO_MAPS, {"text": 10**9}, {"text": 1}, {"text": 2.0}, {"text": True}, {"text": "2"}, {}),
    "dtypes": (*NO_MAPS, None, {"F32": 1.5}, {"F32": 1 << 80}),
    "constants": (*NO_MAPS[:3], {"a": 1}, {"a": None}, {"a": "x" * 5000}),
    "quantization": (*NO_WORDS[:-1],),
    "config": (
        1,
        "a",
        {"a": {"b": 1}},
        {"a": float("nan")},
        {"a": 1 << 80},
        {"a": [1]},
        {"a": "x" * 5000},
        dict.fromkeys(map(str, range(99)), 1),
    ),
    "adapter": (1, "a", [1], {"base": ["x"]}, {"rank": float("inf")}, {"kind": {"a": 1}}),
}
PLACE: dict[int, tuple[Any, ...]] = {
    0: ("", "Text", "te xt", 1, None, ["text"], "x" * 40, "../text", "te\ud800"),
    1: (-2, 0.5, 10**9, 1 << 15, "0", None, [0], 9),
    2: ("", "mlps", 1, None, ["mlp"]),
    3: (1, None, ["up"], "x" * 5000, "\ud800"),
}


def in_about(field: str, value: Any) -> Forge:
    return lambda head, _arrays, _draw: head["about"].update({field: value})


def in_place(part: int, value: Any) -> Forge:
    def forge(head: Head, _: Arrays, draw: Any) -> None:
        table = draw(st.sampled_from(["matrices", "vectors", "experts"]))
        place = draw(st.sampled_from(head["places"][table]))
        place[part] = value

    return forge


def in_column(change: Callable[[str, Any, int], Any]) -> Forge:
    """Another column, or another number in it; `change` gives None where it says nothing of that column."""

    def forge(_: Head, arrays: Arrays, draw: Any) -> None:
        at = draw(st.integers(0, 1 << 20))
        changed = {name: change(name, arrays[name].copy(), at) for name in sorted(arrays)}
        name = draw(st.sampled_from([name for name, new in changed.items() if new is not None]))
        arrays[name] = changed[name]

    return forge


def set_one(values: Any, at: int, value: Any) -> Any:
    values.reshape(-1)[at % values.size] = value
    return values


def no_number(value: float) -> Callable[[str, Any, int], Any]:
    def change(name: str, values: Any, at: int) -> Any:
        may = name.split(".")[1] in ("kurtosis", "column_spread", "row_spread", "spectrum") and np.isnan(value)
        return set_one(values, at, value) if values.dtype.kind == "f" and not may else None

    return change


def least(name: str, values: Any, at: int) -> Any:
    """Negative where nothing may be."""
    signed = values.dtype.kind == "i" or name.split(".")[1] in ("sd", "zeros", "distinct", "kurtosis", "scale", "column_spread", "spectrum")
    return set_one(values, at, -5) if signed else None


def only(*columns: str, value: float) -> Callable[[str, Any, int], Any]:
    return lambda name, values, at: set_one(values, at, value) if name.split(".")[1] in columns else None


def longer(name: str, values: Any, _: int) -> Any:
    return (values * 2).astype(values.dtype) if name.split(".")[1] in checks.UNITS else None


def falling(name: str, values: Any, _: int) -> Any:
    return np.sort(values, axis=1)[:, ::-1] - np.arange(values.shape[1], dtype=values.dtype) if name.endswith("quantiles") else None


def other_shape(_: str, values: Any, __: int) -> Any:
    return np.repeat(values[:, None], 3, axis=1) if values.ndim == 1 else values[:, :-1].copy()


def other_type(_: str, values: Any, __: int) -> Any:
    return values.astype(np.complex64) if values.dtype.kind != "u" else values.astype(np.float64)


def numbers_for(_: str, values: Any, __: int) -> Any:
    """Flags as numbers, and whole numbers as others."""
    kinds = {"b": np.int8, "i": np.float64}
    return values.astype(kinds[values.dtype.kind]) if values.dtype.kind in kinds else None


COLUMNS: dict[str, Callable[[str, Any, int], Any]] = {
    "NaN": no_number(float("nan")),
    "infinite": no_number(float("inf")),
    "negative": least,
    "zero": only("rows", "columns", "experts", "bits", "length", value=0),
    "large": only("rows", "columns", "length", value=(1 << 31) - 1),
    "shares": only("zeros", "distinct", value=1.5),
    "sides": only("side", value=3),
    "stacks": only("experts", value=1000),
    "longer": longer,
    "falling": falling,
    "fewer rows": lambda _, values, __: values[:-1].copy(),
    "more rows": lambda _, values, __: np.concatenate([values, values]),
    "other shape": other_shape,
    "other type": other_type,
    "numbers": numbers_for,
    "three axes": lambda _, values, __: values[..., None].copy(),
}
FORGED: dict[str, Forge] = (
    {f"{field} {number}": in_about(field, value) for field, values in ABOUT.items() for number, value in enumerate(values)}
    | {f"place {part} {number}": in_place(part, value) for part, values in PLACE.items() for number, value in enumerate(values)}
    | {f"columns {name}": in_column(change) for name, change in COLUMNS.items()}
)


@pytest.mark.filterwarnings("ignore:overflow encountered")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_a_forged_field_is_refused(sound: Fingerprint, data: st.DataObject) -> None:
    forge = FORGED[data.draw(st.sampled_from(sorted(FORGED)))]
    head, arrays = parts(sound)
    forge(head, arrays, data.draw)
    with pytest.raises(FingerprintError, match="somebody's: "):
        fingerprints.from_bytes(written(head, arrays), "somebody's")


@pytest.mark.parametrize("name", sorted(FORGED))
def test_each_kind_of_forgery_is_refused(sound: Fingerprint, name: str) -> None:
    head, arrays = parts(sound)
    FORGED[name](head, arrays, lambda strategy: strategy.elements[-1] if hasattr(strategy, "elements") else 7)
    with pytest.raises(FingerprintError):
        fingerprints.from_bytes(written(head, arrays))


def other_places(head: Head, change: Callable[[list[Any]], list[Any]]) -> Head:
    head = copy.deepcopy(head)
    head["places"]["matrices"] = change(head["places"]["matrices"])
    return head


@pytest.mark.parametrize("forged", [0.0, False])
def test_a_layer_that_equals_a_number_does_not_stand_for_it(sound: Fingerprint, forged: object) -> None:
    """Places are kept for the next fingerprint of that layout, and 0.0 == False == 0."""
    head, arrays = parts(sound)
    place = next(place for place in head["places"]["matrices"] if place[1] == 0)
    place[1] = forged
    fingerprints._known_places.cache_clear()
    with pytest.raises(FingerprintError, match="places"):
        fingerprints.from_bytes(written(head, arrays))
    assert {type(place.layer) for place in fingerprints.from_bytes(sound.to_bytes()).matrices.places} == {int}
    assert {type(place.layer) for place in fingerprints.from_bytes(written(head, arrays)).matrices.places} == {int}


ORDERS: dict[str, Callable[[list[Any]], Any]] = {
    "backwards": lambda rows: rows[::-1],
    "twice": lambda rows: [rows[0], *rows[:-1]],
    "of five": lambda rows: [[*row, 1] for row in rows],
    "by number": lambda rows: dict(enumerate(rows)),
}


@pytest.mark.parametrize("order", ORDERS)
def test_places_out_of_order_or_twice_are_refused(sound: Fingerprint, order: str) -> None:
    head, arrays = parts(sound)
    with pytest.raises(FingerprintError):
        fingerprints.from_bytes(written(other_places(head, ORDERS[order]), arrays))


@pytest.mark.parametrize("missing", ["matrices.rows", "matrices.probe", "matrices.digest", "vectors.digest", "experts.sketch"])
def test_missing_columns_are_refused(sound: Fingerprint, missing: str) -> None:
    head, arrays = parts(sound)
    del arrays[missing]
    with pytest.raises(FingerprintError):
        fingerprints.from_bytes(written(head, arrays))


BOMBS: dict[str, str] = {
    "an unpacked gigabyte": "zlib.compress(b' ' * (1 << 30))",
    "many lists": "zlib.compress(b'[' + b'[],' * 12_000_000 + b'[]]')",
    "deep lists": "zlib.compress(b'[' * 4_000_000)",
    "many numbers": "zlib.compress(b'[' + b'1,' * 15_000_000 + b'1]')",
    "a long number": "zlib.compress(b'1' * 30_000_000)",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_unpacks_to_too_much_takes_little_memory(bomb: str) -> None:
    """In a process of its own that may have 1 GB."""
    code = f"""
import base64, resource, zlib, numpy, safetensors.numpy
from modelkin_indexer.results import fingerprint
packed = base64.b85encode({BOMBS[bomb]}).decode()
data = safetensors.numpy.save({{"a": numpy.zeros(1)}}, {{fingerprint.METADATA_KEY: packed}})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    fingerprint.from_bytes(data)
except fingerprint.FingerprintError:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""
    paths = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=paths, check=False)
    assert done.stdout.strip().isdecimal(), done.stderr
    assert int(done.stdout) < 300 + (1024 if bomb == "an unpacked gigabyte" else 0)  # MB; made in the same process, so a peak may hide it


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long.modelkin"
    with path.open("wb") as stream:
        stream.truncate(checks.MAX_BYTES + (1 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FingerprintError, match="more than a fingerprint has"):
        fingerprints.load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < (2 * checks.MAX_BYTES) >> 10


# what passes does no harm


def extreme(head: Head, arrays: Arrays, draw: Any) -> None:
    """Fields at the ends of what is allowed."""
    for name in draw(st.lists(st.sampled_from(sorted(arrays)), min_size=1, max_size=4)):
        values, column = arrays[name], name.split(".")[1]
        at = draw(st.integers(0, values.size - 1))
        if column in checks.UNITS:
            values[at % len(values)] = 0
        elif column in ("mean", "sd", "scale", "kurtosis", "spectrum", "column_spread", "row_spread"):
            set_one(values, at, draw(st.sampled_from([0.0, float(np.finfo(values.dtype).max), float(np.finfo(values.dtype).tiny)])))
        elif column in ("zeros", "distinct"):
            set_one(values, at, draw(st.sampled_from([0.0, 1.0])))
        elif column in ("digest", "numbers", "blocks"):
            set_one(values, at, draw(st.sampled_from([0, np.iinfo(values.dtype).max])))
        elif column in ("bits", "top", "seen"):
            set_one(values, at, 1)
    head["about"]["coverage"] = draw(st.sampled_from([0.0, 0.5, 1.0]))
    head["about"]["layers"] = {"text": draw(st.sampled_from([2, checks.MAX_LAYERS]))}
    head["about"]["parameters"] = draw(st.sampled_from([head["about"]["parameters"], checks.MAX_COUNT]))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_what_passes_can_be_stored_and_compared(sound: Fingerprint, tmp_path: Path, data: st.DataObject) -> None:
    head, arrays = parts(sound)
    extreme(head, arrays, data.draw)
    forged = fingerprints.from_bytes(written(head, arrays))
    path = tmp_path / "r.db"
    path.unlink(missing_ok=True)
    with Registry.open(path) as registry:
        registry.add("sound", sound)
        try:
            registry.add("forged", forged)
        except ModelkinError:
            return
        for one in (sound, forged):
            answer = registry.query(one, source="q", show_all=True)
            json.dumps(answer.to_dict(), allow_nan=False)
        registry.compare(forged, sound)
