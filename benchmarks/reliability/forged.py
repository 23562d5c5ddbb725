"""Forged fingerprints: a sound one's file with one field, place, column or byte that no honest fingerprint has.

Each kind in FORGED has to be refused. Those in PASSING are of sound form and lie: they may be taken in, and must do no harm.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import numpy as np
import safetensors.numpy

from modelkin_indexer.results import checks
from modelkin_indexer.results.fingerprint import METADATA_KEY, Fingerprint

Head = dict[str, Any]
Arrays = dict[str, Any]
Forge = Callable[[Head, Arrays, Random], None]
TABLES = ("matrices", "vectors", "experts")


def parts(found: Fingerprint) -> tuple[Head, Arrays]:
    data = found.to_bytes()
    packed = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"][METADATA_KEY]
    arrays = {name: values.copy() for name, values in safetensors.numpy.load(data).items()}
    return json.loads(zlib.decompress(base64.b85decode(packed))), arrays


def written(head: Any, arrays: Arrays) -> bytes:
    packed = json.dumps(head).encode() if not isinstance(head, bytes) else head
    return safetensors.numpy.save(arrays, {METADATA_KEY: base64.b85encode(zlib.compress(packed)).decode()})


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
    return lambda head, _arrays, _random: head["about"].update({field: value})


def in_place(part: int, value: Any) -> Forge:
    def forge(head: Head, _: Arrays, random: Random) -> None:
        random.choice(head["places"][random.choice(TABLES)])[part] = value

    return forge


def in_column(change: Callable[[str, Any, int], Any]) -> Forge:
    """Another column, or another number in it; `change` gives None where it says nothing of that column."""

    def forge(_: Head, arrays: Arrays, random: Random) -> None:
        at = random.randrange(1 << 20)
        changed = {name: change(name, arrays[name].copy(), at) for name in sorted(arrays)}
        name = random.choice([name for name, new in changed.items() if new is not None])
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


def places_changed(change: Callable[[list[Any]], Any]) -> Forge:
    def forge(head: Head, _: Arrays, random: Random) -> None:
        table = random.choice(("matrices", "vectors"))
        head["places"][table] = change(head["places"][table])

    return forge


def without(*columns: str) -> Forge:
    def forge(_: Head, arrays: Arrays, random: Random) -> None:
        del arrays[random.choice(columns)]

    return forge


FORGED |= {
    "places backwards": places_changed(lambda rows: rows[::-1]),
    "places twice": places_changed(lambda rows: [rows[0], *rows[:-1]]),
    "places of five": places_changed(lambda rows: [[*row, 1] for row in rows]),
    "places by number": places_changed(lambda rows: dict(enumerate(rows))),
    "places missing": places_changed(lambda rows: rows[:-1]),
    "columns missing": without("matrices.rows", "matrices.probe", "matrices.digest", "vectors.digest", "experts.sketch"),
    "about missing": lambda head, _, random: head["about"].pop(random.choice(("level", "key", "spec", "layers", "coverage"))),
    "about unknown": lambda head, _, __: head["about"].update(extra=1),
}


# What is of sound form, and lies


def swapped(table: str, column: str) -> Forge:
    """The numbers of two places exchanged."""

    def forge(_: Head, arrays: Arrays, random: Random) -> None:
        values = arrays[f"{table}.{column}"]
        one, other = random.sample(range(len(values)), 2)
        values[[one, other]] = values[[other, one]]

    return forge


def silent(table: str, column: str) -> Forge:
    def forge(_: Head, arrays: Arrays, random: Random) -> None:
        values = arrays[f"{table}.{column}"]
        values[random.randrange(len(values))] = 0

    return forge


def extreme(column: str, value: float) -> Forge:
    def forge(_: Head, arrays: Arrays, random: Random) -> None:
        values = arrays[f"matrices.{column}"]
        values[random.randrange(len(values))] = np.finfo(values.dtype).max if value > 1 else value

    return forge


PASSING: dict[str, Forge] = (
    {f"{column} swapped": swapped("matrices", column) for column in ("probe", "gram", "anchored", "digest", "numbers", "blocks")}
    | {f"vectors' {column} swapped": swapped("vectors", column) for column in ("sketch", "digest")}
    | {f"{column} silent": silent("matrices", column) for column in ("probe", "gram", "anchored", "digest", "numbers")}
    | {f"{column} {value:g}": extreme(column, value) for column in ("mean", "sd", "scale", "kurtosis") for value in (0.0, 1e9)}
    | {f"coverage {value}": in_about("coverage", value) for value in (0.0, 0.5)}
    | {
        "many layers": in_about("layers", {"text": checks.MAX_LAYERS}),
        "many parameters": in_about("parameters", checks.MAX_COUNT),
        "other config": in_about("config", {"model_type": "gpt2", "num_hidden_layers": 1000000}),
        "declared base": in_about("adapter", {"kind": "lora", "rank": 8, "base": "model-0", "added": False}),
    }
)


# The file's own bytes


def cut(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data))]


def flipped(data: bytes, random: Random) -> bytes:
    """One bit of what describes the fingerprint: the vectors' own bits are as good as their author says."""
    at = random.randrange(8 + int.from_bytes(data[:8], "little"))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def header(length: int) -> Callable[[bytes, Random], bytes]:
    return lambda data, _: length.to_bytes(8, "little") + data[8:]


def described(head: bytes) -> Callable[[bytes, Random], bytes]:
    """The description replaced by other bytes, packed as it is."""
    return lambda data, _: written(head, safetensors.numpy.load(data))


BYTES: dict[str, Callable[[bytes, Random], bytes]] = {
    **{f"cut {number}": cut for number in range(20)},
    **{f"flipped {number}": flipped for number in range(40)},
    "empty": lambda _, __: b"",
    "zeros": lambda data, _: bytes(len(data)),
    "twice": lambda data, _: data + data,
    "more": lambda data, _: data + b"x",
    "header 0": header(0),
    "header huge": header((1 << 64) - 1),
    "header past the end": header(1 << 30),
    "description no JSON": described(b"{"),
    "description no UTF-8": described(b'{"about": "\xff\xfe"}'),
    "description NaN": described(b'{"about": {"coverage": NaN}, "places": {}}'),
    "description a list": described(b"[]"),
    "description deep": described(b"[" * 1_000_000),
    "description huge": described(b" " * (checks.MAX_HEAD + 1)),
    "description many": described(b"[" + b"[]," * (checks.MAX_MARKS // 2) + b"[]]"),
    "description a long number": described(b"1" * 10_000_000),
    "a picture": lambda _, __: b"\x89PNG\r\n\x1a\n" + bytes(1000),
    "an archive": lambda _, __: b"PK\x03\x04" + bytes(1000),
}


def forged(sound: Fingerprint, kinds: dict[str, Forge], seed: int) -> Iterator[tuple[str, bytes]]:
    """The sound fingerprint forged in each of these ways; what cannot be written at all is left out."""
    for number, (name, forge) in enumerate(sorted(kinds.items())):
        head, arrays = parts(sound)
        forge(head, arrays, Random(seed + number))
        yield name, written(head, arrays)


def damaged(sound: Fingerprint, seed: int) -> Iterator[tuple[str, bytes]]:
    """Its file with other bytes."""
    data = sound.to_bytes()
    yield from ((name, change(data, Random(seed + number))) for number, (name, change) in enumerate(sorted(BYTES.items())))
