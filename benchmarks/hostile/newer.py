"""Damaged and hostile files of the newer containers, at least 200 each, and what has to become of each."""

from __future__ import annotations

import io
import pickle
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import h5py
import numpy as np

from benchmarks.hostile.expected import LATE, NOTED, REFUSED
from benchmarks.hostile.written import (
    coreml_files,
    coreml_model,
    flax_bytes,
    keras_archive,
    keras_bytes,
    nemo_bytes,
    openvino_files,
    packed,
    packed_array,
    paddle_parameters,
    paddle_pickle,
    whisper_bytes,
)

Files = dict[str, bytes]
Case = tuple[bytes, str]
Tensors = dict[str, Any]
LIES = (0, 1, 2**31, 2**40, 2**62, 2**63, 2**64 - 1)  # that a number of 8 bytes is replaced by


def written(write: Callable[[h5py.File], None]) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        write(file)
    return stream.getvalue()


def keras_files(tensors: Tensors, not_finite: Iterator[Tensors], cuts: Iterator[Case], rng: random.Random) -> Iterator[Case]:
    """Files: cut, with addresses and sizes that lie, links out of the file, numbers that lie elsewhere, compressed floods, bad numbers."""
    yield from cuts
    whole = keras_bytes(tensors)
    for at, least in ((24, 1), (40, 2), (64, 0)):  # base, end, root object
        for lie in LIES:
            if lie >= least:
                yield whole[:at] + struct.pack("<Q", lie) + whole[at + 8 :], REFUSED
    for at in range(8):
        yield whole[:at] + b"?" + whole[at + 1 :], REFUSED
    for mark in (b"TREE", b"HEAP", b"SNOD"):
        places = [at for at in range(len(whole)) if whole.startswith(mark, at)]
        for at in rng.sample(places, min(16, len(places))):
            yield whole[:at] + b"????" + whole[at + 4 :], REFUSED
    for where in ("/etc/hostname", "../elsewhere.h5", "model.h5"):
        yield written(lambda file, where=where: file.__setitem__("layers", h5py.ExternalLink(where, "/"))), REFUSED
        yield written(lambda file, where=where: _outside(file, where)), REFUSED
        yield written(lambda file, where=where: _virtual(file, where)), REFUSED
    yield written(lambda file: file.create_dataset("layers/d/vars/0", (2**20, 2**10), "f4", chunks=(2**14, 2**10))), REFUSED
    yield written(lambda file: file.create_dataset("layers/d/vars/0", (64, 64), "f4", chunks=(8, 64), compression="lzf")), REFUSED
    yield written(lambda file: file.create_dataset("layers/d/vars/0", (64, 64), "f4", chunks=(8, 64))), REFUSED  # nothing in it
    yield written(lambda file: file.create_group("layers/d/vars").create_dataset("kernel", data=np.ones((4, 4), np.float32))), REFUSED
    yield written(lambda file: file.create_group("nothing")), REFUSED
    yield written(lambda file: file.create_group("/".join(["layers", *"abcdefgh" * 9]))), REFUSED
    yield written(lambda file: file.create_group("layers").__setitem__("again", file["/"])), REFUSED
    for level in (0, 9):
        squeezed = keras_bytes({name: np.round(values, 1) for name, values in tensors.items()}, compressed=True)
        at = squeezed.rindex(b"\x78", 0, len(squeezed) - 40 - level)
        yield squeezed[:at] + b"\xff" * 32 + squeezed[at + 32 :], LATE
    yield keras_archive(whole, "weights.h5"), REFUSED
    yield keras_archive(whole, method=zipfile.ZIP_DEFLATED), REFUSED
    yield keras_archive(b""), REFUSED
    archive = keras_archive(whole)
    for length in rng.sample(range(len(archive) - 1), 20):
        yield archive[:length], REFUSED
    for tensors in not_finite:
        yield keras_bytes(tensors), NOTED


def _outside(file: h5py.File, where: str) -> None:
    file.create_dataset("layers/d/vars/0", (8, 8), "f4", external=[(where, 0, 256)])


def _virtual(file: h5py.File, where: str) -> None:
    layout = h5py.VirtualLayout((8, 8), "f4")
    layout[:] = h5py.VirtualSource(where, "x", (8, 8))
    file.create_virtual_dataset("layers/d/vars/0", layout)


def flax_files(tensors: Tensors, not_finite: Iterator[Tensors], cuts: Iterator[Case], rng: random.Random) -> Iterator[Case]:
    """Files: cut, with shapes, types and lengths that do not fit, marks that are none, nests, floods of names, bad numbers."""
    yield from cuts
    for name, values in tensors.items():
        shape, data = tuple(values.shape[::-1]), values.tobytes()
        for lie in ((32, 47), (-32, -48), (2**40, 2**40), (2**62, 2), (1,) * 40, (32, 48, 2), "32", 7, ({},), ("a",), b"x"):
            yield flax_bytes(tensors, {name: packed_array(lie, "float32", data)}), REFUSED
        for kind in ("float64", "float16", "bfloat16", 7, {}, b"float32"):
            yield flax_bytes(tensors, {name: packed_array(shape, kind, data)}), REFUSED
        for bad in (data[:-4], b"", "text", 1, [data]):
            yield flax_bytes(tensors, {name: packed_array(shape, "float32", bad)}), REFUSED
        for chunks in ({}, {"0": values}, {"0": values.reshape(-1)[:7]}, {"0": "text"}, "text"):
            some = {"__msgpack_chunked_array__": True, "shape": {"0": 48, "1": 33}, "chunks": chunks}
            yield flax_bytes(tensors, {name: packed(some)}), REFUSED
    for mark in (0xC1, 0xC6, 0xC9, 0xDB, 0xDD, 0xDF):
        yield b"\x81\xa6params" + bytes([mark]) + b"\xff\xff\xff\xff" + rng.randbytes(64), REFUSED
    yield b"\x81\xa1a" * 300 + b"\xc0", REFUSED
    yield b"\x91" * 100_000, REFUSED
    yield b"\xdd\x00\x98\x96\x80" + b"\xc0" * 10_000_000, REFUSED
    yield b"\x81\xa1a\xc0", REFUSED
    yield b"\x82\xa1a\xc0\xa1a\xc0", REFUSED
    yield flax_bytes(tensors) + b"\xc0", REFUSED
    for some in not_finite:
        yield flax_bytes(some), NOTED


def paddle_files(
    tensors: Tensors, not_finite: Iterator[Tensors], cuts: Iterator[Case], calling: Iterator[bytes], rng: random.Random
) -> Iterator[Case]:
    """Pickles and parameters: cut, calling, with types, shapes, lengths and versions that do not fit, bad numbers."""
    yield from cuts
    yield from ((some, REFUSED) for some in calling)
    whole = paddle_pickle(tensors)
    for kind in (b"O8", b"V4", b"S4", b"c8", b"M8", b"f3"):
        yield whole.replace(b"\x8c\x02f4", b"\x8c\x02" + kind), REFUSED
    for protocol in (0, 1, 2):
        yield paddle_pickle(tensors, protocol), REFUSED
    for value in ({}, [], "text", {"a": 1}, {"a": [1, 2]}):
        yield pickle.dumps(value, 4), REFUSED
    yield whole + b"x", REFUSED
    plain = paddle_parameters(tensors)
    for length in rng.sample(range(1, len(plain) - 1), 40):
        yield plain[:length], REFUSED
    for name in tensors:
        for lie in ((32, 47), (2**40, 2**40), (2**62, 4), (1,) * 40, (2**64 - 1, 48)):
            yield paddle_parameters(tensors, {name: {"shape": lie}}), REFUSED
        for key, value in (
            ("kind", 99),
            ("kind", 6),
            ("version", 7),
            ("levels", 99),
            ("levels", 2**40),
            ("inner", 1),
            ("length", -1),
            ("length", 2**30),
        ):
            yield paddle_parameters(tensors, {name: {key: value}}), REFUSED
    for some in not_finite:
        yield paddle_pickle(some), NOTED


def openvino_cases(tensors: Tensors, not_finite: Iterator[Tensors], rng: random.Random) -> Iterator[tuple[Files, str]]:
    """Folders: graph or bytes cut, constants that do not fit, documents with entities, of other kinds or nested, links, bad numbers."""
    whole = openvino_files(tensors)
    xml, data = whole.values()
    yield from ((graph_of(xml[:length], data), REFUSED) for length in (0, 1, 8, *rng.sample(range(9, len(xml) - 8), 60)))
    yield from ((graph_of(xml, data[:length]), REFUSED) for length in (0, 1, *rng.sample(range(2, len(data) - 1), 30), len(data) - 1))
    yield {"openvino_model.xml": xml}, REFUSED
    for name in tensors:
        for key, lies in LYING.items():
            for lie in lies:
                yield openvino_files(tensors, {name: {key: lie}}), REFUSED
    for entity in ENTITIES:
        yield graph_of(xml.replace(b"?>", b"?>" + entity, 1), data), REFUSED
    for place in [at for at in range(len(xml)) if xml.startswith((b"</", b"<layer "), at)][:30]:
        yield graph_of(xml[:place] + b"!" + xml[place + 1 :], data), REFUSED
    yield graph_of(b"<net>" + b"<layer>" * 200 + b"</layer>" * 200 + b"</net>", data), REFUSED
    yield graph_of(b"<html><net/></html>", data), REFUSED
    yield graph_of(b"<net></net>", data), REFUSED
    yield graph_of(xml.replace(b'to-layer="2"', b'to-layer="99"'), data), REFUSED
    yield graph_of(xml.replace(b'<layer id="2"', b'<layer id="1"'), data), REFUSED
    for some in not_finite:
        yield openvino_files(some), NOTED


LYING = {
    "shape": ("48, 33", "47, 32", "-48, -32", "1099511627776, 1099511627776", "a, b", ", ".join("1" * 9)),
    "element_type": ("f64", "f16", "bf16"),
    "offset": ("-4", "1099511627776", "x"),
    "size": ("0", "-1", "4", "18446744073709551616"),
}
ENTITIES = (
    b'<!DOCTYPE net [<!ENTITY a "aaaaaaaaaa">]>',
    b'<!DOCTYPE net SYSTEM "http://localhost/x.dtd">',
    b'<!DOCTYPE net [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
    b'<!DOCTYPE net [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;">]>',
)


def graph_of(xml: bytes, data: bytes) -> Files:
    return {"openvino_model.xml": xml, "openvino_model.bin": data}


def whisper_files(tensors: Tensors, not_finite: Iterator[Tensors], cuts: Iterator[Case], rng: random.Random) -> Iterator[Case]:
    """Files: cut, with settings, counts, types and shapes that do not fit, of other models, bad numbers."""
    yield from cuts
    impossible = {
        "vocab": (0, 2**30),
        "state": (0, 33, 2**31),
        "heads": (0, 5),
        "layers": (0, -1),
        "mels": (0, 2**20),
        "magic": (0, 0x67676A74),
    }
    counts = {"filters": (2**31, 999), "fft": (2**20, 2**32 - 1), "words": (2, 4, 2**31), "word": (0, 1, 3, 2**20, 2**32 - 1)}
    for key, lies in (impossible | counts).items():
        yield from ((whisper_bytes(tensors, **{key: lie}), REFUSED) for lie in lies)
    for name in tensors:
        for key, values in {"axes": (0, 1, 5, 2**31), "length": (0, 1, 999, 2**31), "kind": (2, 4, 99, 2**31), "shape": SHAPES}.items():
            yield from ((whisper_bytes(tensors, {name: {key: value}}), REFUSED) for value in values)
    yield whisper_bytes(tensors) + rng.randbytes(40), REFUSED
    for some in not_finite:
        yield whisper_bytes(some), NOTED


SHAPES = ((32, 47), (0, 48), (2**31, 2**31), (33, 48), (2**32 - 1, 1))


def nemo_files(
    checkpoint: bytes, not_finite: Iterator[bytes], cuts: Iterator[Case], calling: Iterator[bytes], rng: random.Random
) -> Iterator[Case]:
    """Archives: cut, compressed, with headers that lie, without a checkpoint or with several, with calling ones, bad numbers."""
    yield from cuts
    whole = nemo_bytes(checkpoint)
    for mode in ("w:gz", "w:bz2", "w:xz"):
        yield nemo_bytes(checkpoint, mode=mode), REFUSED
    for name in ("./weights.ckpt", "./model_weights.ckpt.txt", "./model_weights/.metadata", "./mp_rank_00"):
        yield nemo_bytes(checkpoint, name), REFUSED
    yield nemo_bytes(checkpoint)[:-512] + nemo_bytes(checkpoint, "./mp_rank_01/model_weights.ckpt"), REFUSED
    for at in range(148, 154):
        yield whole[:at] + b"?" + whole[at + 1 :], REFUSED
    for size in (b"00000000000", b"77777777777", b"00000000077", b"xxxxxxxxxxx"):
        at = 1024 + 124
        yield _summed(whole[:at] + size + whole[at + 11 :], 1024), REFUSED
    yield from ((nemo_bytes(some), REFUSED) for some in calling)
    for length in rng.sample(range(len(checkpoint) - 1), 60):
        yield nemo_bytes(checkpoint[:length]), REFUSED
    for some in not_finite:
        yield nemo_bytes(some), NOTED


def _summed(data: bytes, at: int) -> bytes:
    """The archive with the checksum of the header at a byte made right."""
    head = data[at : at + 148] + b" " * 8 + data[at + 156 : at + 512]
    return data[: at + 148] + b"%06o\0 " % sum(head) + data[at + 156 :]


def distributed_folders(
    folder: Files, not_finite: Iterator[Files], calling: Iterator[bytes], rng: random.Random
) -> Iterator[tuple[Files, str]]:
    """Folders: metadata cut, calling or of other things, files cut or missing, places and shapes that lie, bad numbers."""
    said, data = folder[".metadata"], folder["__0_0.distcp"]
    yield from ((_checkpoint(said[:length], data), REFUSED) for length in (0, 1, *rng.sample(range(2, len(said) - 1), 80)))
    yield from ((_checkpoint(said, data[:length]), REFUSED) for length in (0, 1, *rng.sample(range(2, len(data) - 1), 40), len(data) - 1))
    yield from ((_checkpoint(some, data), REFUSED) for some in calling)
    yield from ((_checkpoint(pickle.dumps(value, 4), data), REFUSED) for value in ({}, [], None, "text", 7))
    yield {"__0_0.distcp": data}, REFUSED
    yield _checkpoint(said.replace(b"__0_0.distcp", b"__9_9.distcp"), data), REFUSED
    for name in (b"../../../../", b"/etc/passwd\0", b"..", b"a/b/c/d/e/f/"):
        yield _checkpoint(said.replace(b"__0_0.distcp", name.ljust(12, b"x")[:12]), data), REFUSED
    for old in (b"K\x30K\x20\x86", b"K\x20K\x30\x86", b"K\x00K\x00\x86"):
        for new in (b"K\x31K\x20\x86", b"K\x01K\x01\x86", b"K\xffK\xff\x86", b"NN\x86", b"K\x20N\x86"):
            places = [at for at in range(len(said)) if said.startswith(old, at)]
            for at in places[:4]:
                yield _checkpoint(said[:at] + new.ljust(5, b"0")[:5] + said[at + 5 :], data), REFUSED
    for some in not_finite:
        yield some, NOTED


def _checkpoint(said: bytes, data: bytes) -> Files:
    return {".metadata": said, "__0_0.distcp": data}


def coreml_folders(tensors: Tensors, not_finite: Iterator[Tensors], rng: random.Random) -> Iterator[tuple[Files, str]]:
    """Packages: program or blobs cut, marks, places, types and shapes that lie, without a program, bad numbers."""
    whole = coreml_files(tensors)
    program, blobs = whole["model.mlmodel"], whole["weights/weight.bin"]
    yield from ((_package(program[:length], blobs), REFUSED) for length in (0, 1, 2, *rng.sample(range(3, len(program) - 1), 70)))
    yield from ((_package(program, blobs[:length]), REFUSED) for length in (0, 1, *rng.sample(range(2, len(blobs) - 64), 50)))
    yield {f"{INSIDE}model.mlmodel": program}, REFUSED
    for name in tensors:
        for key, lies in COREML_LIES.items():
            for lie in lies:
                files = coreml_files(tensors, {name: {key: lie}})
                yield _package(*files.values()), REFUSED
    for version in (0, 1, 3, 2**31):
        yield _package(program, blobs[:4] + struct.pack("<I", version) + blobs[8:]), REFUSED
    for other in (b"\x08\x09\x12\x00", b"", b"\x08" * 99, rng.randbytes(400), coreml_model(b""), b"\xff" * 400):
        yield _package(other, blobs), REFUSED
    for some in not_finite:
        yield _package(*coreml_files(some).values()), NOTED


INSIDE = "Data/com.apple.CoreML/"
COREML_LIES: dict[str, tuple[Any, ...]] = {
    "mark": (0, 0xDEADBEEE),
    "size": (0, 4, 2**40, 2**63),
    "start": (2**40, 2**63, 2**64 - 1),
    "shape": ((48, 33), (47, 32), (2**31, 2**31), (2**62,)),
    "type": (12, 10, 13),
    "offset": (0, 63, 2**40, 2**62),
    "file": ("../../../etc/passwd", "/etc/passwd", "@model_path/../weight.bin"),
}


def _package(program: bytes, blobs: bytes) -> Files:
    return {f"{INSIDE}model.mlmodel": program, f"{INSIDE}weights/weight.bin": blobs}
