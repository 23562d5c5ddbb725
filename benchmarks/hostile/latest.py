"""Damaged and hostile files of the newest containers, at least 200 each, and what has to become of each."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from benchmarks.hostile import bundles, checkpoints
from benchmarks.hostile.expected import LATE, NOTED, REFUSED
from benchmarks.hostile.written import packed, spacy_files

Files = dict[str, bytes]
Tensors = Mapping[str, Any]
Folder = tuple[Files, str]
CUTS = 60  # of each file
SHAPES = ((33, 48), (-32, -48), (2**31 - 1, 2**31 - 1), (1,) * 40)


def _cut(files: Files, rng: random.Random, only: tuple[str, ...] = ()) -> Iterator[Folder]:
    """Each file of a folder cut at its ends and at places between, or missing."""
    for name, data in files.items():
        if only and name not in only:
            continue
        places = range(2, len(data) - 1)
        for length in (0, 1, *rng.sample(places, min(CUTS, len(places))), len(data) - 1):
            yield files | {name: data[:length]}, REFUSED
        yield {other: part for other, part in files.items() if other != name}, REFUSED


def orbax_folders(tensors: Tensors, not_finite: Iterator[Tensors], rng: random.Random) -> Iterator[Folder]:
    """Folders: manifest or data cut, marks, lengths, places, paths and descriptions that lie, trees that bite their tails, floods."""
    named = checkpoints.flax_named(tensors)
    sound = checkpoints.zarr_values(named)
    whole = checkpoints.ocdbt_files(sound)
    yield from _cut(whole, rng)
    for name in ("../0123", "/etc/passwd", "d/../../x", "d//x", "", "d/0124", "..", "\0", "d/" * 20 + "x"):
        yield checkpoints.ocdbt_files(sound, name=name), REFUSED
    for lies in (
        *({"head": {"size": n}} for n in (0, 1, 2**40, 2**63)),
        *({"head": {"version": n}} for n in (1, 127)),
        *({"head": {"packed": n}} for n in (1, 2, 200)),
        *({"leaf": {"node": {key: n}}} for key in ("size", "version", "packed") for n in (1, 2, 99)),
        *({"leaf": {key: n}} for key in ("height", "kind", "file") for n in (1, 2, 99)[key == "kind" :]),
        *({"leaf": {"count": n}} for n in (2**20, 2**40, 2**62)),
        *({"leaf": {"key": n}} for n in (2**20, 2**40)),
        *({"leaf": {"prefix": n}} for n in (99, 127)),
        *({"root": place} for place in ((0, 50), (2**40, 50), (0, 2**40), (2**62, 2**62))),
        *({"where": place} for place in ((2**40, 6), (0, 2**40))),
        *({"height": n} for n in (1, 7, 255)),
        *({"versions": n} for n in (0, 2**20, 2**40)),
        {"numbered": 1},
        {"base": 99},
        {"file": 9},
    ):
        yield checkpoints.ocdbt_files(sound, **lies), REFUSED
    for name in named:
        for said in (
            *({"shape": list(shape)} for shape in SHAPES),
            *({"chunks": list(chunks)} for chunks in ((0, 24), (1, 1, 1), (2**40, 2**40), (-1, 4))),
            {"dtype": 7, "shape": "x"},
            {"compressor": 7},
            {"shape": {}},
        ):
            many = NOTED if said.get("shape") == list(SHAPES[2]) else REFUSED  # as many chunks as no checkpoint has: told as unread
            yield checkpoints.ocdbt_files(checkpoints.zarr_values(named, lies={name: said})), many
    for text in (b"", b"[]", b"{", b"7", b"[" * 60_000, b'{"shape": [1]}', b"x" * 70_000):
        yield checkpoints.ocdbt_files(sound | {f"{next(iter(named))}/.zarray": text}), REFUSED
    packed_files = checkpoints.zarr_values(named, packed=True)
    for key in [key for key in packed_files if not key.endswith(".zarray")][:12]:
        data = packed_files[key]
        yield checkpoints.ocdbt_files(packed_files | {key: data[:200] + b"\xff" * 40 + data[240:]}), LATE
        yield checkpoints.ocdbt_files({other: part for other, part in sound.items() if other != key}), REFUSED
    for some in not_finite:
        yield checkpoints.ocdbt_files(checkpoints.zarr_values(checkpoints.flax_named(some))), NOTED


def tensorflow_folders(tensors: Tensors, not_finite: Iterator[Tensors], rng: random.Random) -> Iterator[Folder]:
    """Folders: index or numbers cut or missing, tables, entries and shapes that lie, bad numbers."""
    named = {f"{name}/kernel": array.T for name, array in tensors.items()}
    yield from _cut(checkpoints.tensorflow_files(named), rng)
    for table in (
        *({"shared": n} for n in (1, 99)),
        *({"own": n} for n in (0, 2**20, 2**40)),
        *({"restarts": n} for n in (2**20, 2**31)),
        *({"start": n} for n in (1, 2**40)),
        *({"length": n} for n in (0, 3, 2**40)),
        *({"index": n} for n in (0, 1, 2**40)),
        *({"packed": n} for n in (1, 2)),
    ):
        yield checkpoints.tensorflow_files(named, table=table), REFUSED
    for said in ({"shards": 0}, {"shards": 2}, {"shards": 2**20}, {"shards": 2**40}, {"big": True}):
        yield checkpoints.tensorflow_files(named, **said), REFUSED
    for name in named:
        for lies in (
            *({"shape": shape} for shape in ((32, 47), (2**39, 2**39), (2**50,), (1,) * 40)),
            *({"start": n} for n in (2**20, 2**40, 2**62)),
            *({"length": n} for n in (0, 4, 2**40)),
            *({"file": n} for n in (1, 2**31)),
            *({"kind": n} for n in (2, 14)),
            {"more": b"\xff\xff"},
        ):
            yield checkpoints.tensorflow_files(named, lies={name: lies}), REFUSED
    for some in not_finite:
        yield checkpoints.tensorflow_files({f"{name}/kernel": array.T for name, array in some.items()}), NOTED


def litertlm_files(tflite: bytes, bad: Iterator[bytes], rng: random.Random) -> Iterator[tuple[bytes, str]]:
    """Bundles: cut, with sections, kinds and ends that lie, models inside cut, of other versions."""
    whole = bundles.litertlm_bytes({"prefill_decode": tflite, "embedder": tflite})
    for length in (0, 1, 8, *rng.sample(range(9, len(whole) - 1), 120)):
        yield whole[:length], REFUSED
    for key, lies in {"begin": (0, 1, 40, 2**40, -1), "end": (1, 2**40, -1), "kind": (0, 1, 7, 99)}.items():
        for lie in lies:
            yield bundles.litertlm_bytes({"prefill_decode": tflite}, {"prefill_decode": {key: lie}}), REFUSED
    for said in (*({"end": n} for n in (0, 33, 2**31, 2**63, -1)), *({"version": n} for n in (0, 2, 2**31)), {"mark": b"LITERTLN"}):
        yield bundles.litertlm_bytes({"prefill_decode": tflite}, **said), REFUSED
    for length in rng.sample(range(len(tflite) - 1), 60):
        yield bundles.litertlm_bytes({"prefill_decode": tflite[:length]}), REFUSED
    task = bundles.task_bytes({"TF_LITE_PREFILL_DECODE": tflite})
    for length in rng.sample(range(len(task) - 1), 40):
        yield task[:length], REFUSED
    yield bundles.task_bytes({"TF_LITE_PREFILL_DECODE": tflite}, zipfile.ZIP_DEFLATED), REFUSED
    for some in bad:
        yield bundles.litertlm_bytes({"prefill_decode": some}), NOTED


def executorch_files(tensors: Tensors, not_finite: Iterator[Tensors], rng: random.Random) -> Iterator[tuple[bytes, str]]:
    """Tensors and programs: cut, with shapes, orders, types, segments and places that lie, bad numbers."""
    whole = bundles.ptd_bytes(tensors)
    program = bundles.pte_bytes(list(tensors.values()))
    for data in (whole, program):
        for length in (0, 1, 8, *rng.sample(range(9, len(data) - 1), 60), len(data) - 1):
            yield data[:length], REFUSED
    impossible: dict[str, tuple[Any, ...]] = {"shape": SHAPES[:3], "order": ((0, 0), (1, 2), (0,)), "segment": (9, 2**31)}
    impossible |= {"start": (2**40, 2**63), "size": (4, 2**40, 2**63)}
    for name in tensors:
        for key, lies in impossible.items():
            for lie in lies:
                yield bundles.ptd_bytes(tensors, {name: {key: lie}}), REFUSED
    arrays = list(tensors.values())
    for key, lies in (impossible | {"place": (2**40, 2**62), "buffer": (99, 2**31), "size": (2**40, 2**63)}).items():
        for lie in lies:
            yield bundles.pte_bytes(arrays, **{key: lie}), REFUSED
    yield bundles.pte_bytes([], bytes(900)), REFUSED
    yield bundles.pte_bytes(arrays, names=list(tensors), location=1), REFUSED
    for some in not_finite:
        yield bundles.ptd_bytes(some), NOTED


def spacy_folders(tensors: Tensors, not_finite: Iterator[Tensors], rng: random.Random) -> Iterator[Folder]:
    """Folders: config or models cut, arrays that lie, pipelines of other folders, nests and floods."""
    named = {name.replace(".", "_"): np.ascontiguousarray(array) for name, array in tensors.items()}
    whole = spacy_files(named)
    models = tuple(name for name in whole if name.endswith("model"))
    yield from ((files, outcome) for files, outcome in _cut(whole, rng, models[:2]) if len(files) == len(whole))
    for length in range(len(whole["config.cfg"]) - 1):
        if length % 4 == 0:
            yield whole | {"config.cfg": whole["config.cfg"][:length]}, REFUSED
    for name in named:
        for said in (
            *({b"shape": list(shape)} for shape in SHAPES),
            {b"shape": "x"},
            {b"shape": [2**62, 2]},
            {b"type": "<f8"},
            {b"type": 7},
            {b"data": 7},
            {b"data": b"x"},
        ):
            yield spacy_files(named, lies={name: said}), REFUSED
    for pipeline in (b"[]", b'["../x"]', b'["/etc"]', b"7", b'["a", 7]', b"[" * 5000):
        yield whole | {"config.cfg": b"[nlp]\npipeline = " + pipeline + b"\n"}, REFUSED
    for value in ({}, [], "text", {"nodes": 7, "params": 7}, {"nodes": [], "params": [{}]}, {"nodes": [7], "params": [7]}):
        yield whole | {models[0]: packed(value)}, REFUSED
    yield whole | {models[0]: b"\x91" * 100_000}, REFUSED
    yield whole | {models[0]: b"\xdd\x00\x98\x96\x80" + b"\xc0" * 1_000_000}, REFUSED
    for some in not_finite:
        yield spacy_files({name.replace(".", "_"): np.ascontiguousarray(array) for name, array in some.items()}), NOTED
