"""Single safetensors files: what the safetensors library writes is read back, and whatever is wrong with a file is a SourceError."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkin_indexer.errors import DamagedFile, SourceError, UnsupportedFormat
from modelkin_indexer.opening import open_source
from modelkin_indexer.sources.safetensors import strict_json
from modelkin_indexer.sources.stored import values

LIBRARY_TYPES = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool"]
TORCH_TYPES = [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
OPEN_FILES = Path("/proc/self/fd")
A = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
B = {"dtype": "I8", "shape": [4], "data_offsets": [24, 28]}


def compose(header: Any, data: bytes = bytes(28), length: int | None = None) -> bytes:
    """A file of these parts; `header` is text, bytes or something to write as JSON."""
    text = header if isinstance(header, str | bytes) else json.dumps(header)
    raw = text.encode() if isinstance(text, str) else text
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data


SOUND = compose({"a": A, "b": B})


def write(folder: Path, content: bytes, name: str = "model.safetensors") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_reads_what_the_library_writes(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    shapes = st.lists(st.integers(1, 5), max_size=3).map(tuple)
    names = data.draw(
        st.lists(st.text(st.characters(codec="utf-8"), max_size=8).filter(lambda name: name != "__metadata__"), min_size=1, unique=True)
    )
    arrays = {}
    for name in names:
        dtype, shape = np.dtype(data.draw(st.sampled_from(LIBRARY_TYPES))), data.draw(shapes)
        nbytes = int(np.prod(shape)) * dtype.itemsize
        raw = np.frombuffer(data.draw(st.binary(min_size=nbytes, max_size=nbytes)), np.uint8)
        arrays[name] = (raw % 2 if dtype.kind == "b" else raw).view(dtype).reshape(shape)
    path = tmp_path_factory.getbasetemp() / "library.safetensors"
    safetensors.numpy.save_file(arrays, path, metadata={"format": "pt", "née": "\u00e9"})
    source = open_source(path)
    assert list(source.tensors) == sorted(names)
    for name, array in arrays.items():
        info = source.tensors[name]
        assert (info.shape, info.nbytes, info.elements) == (array.shape, array.nbytes, array.size)
        assert source.read(name, 0, info.nbytes).tobytes() == array.tobytes()
    assert source.bytes_read == path.stat().st_size == source.files[0].size
    source.close()


@pytest.mark.parametrize("dtype", TORCH_TYPES)
def test_reads_the_types_numpy_lacks(dtype: torch.dtype, tmp_path: Path) -> None:
    tensor = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    safetensors.torch.save_file({"w": tensor}, tmp_path / "model.safetensors")
    source = open_source(tmp_path)
    decoded = values.decode(source.tensors["w"].dtype, source.read("w", 0, source.tensors["w"].nbytes)).reshape(5, 7)
    np.testing.assert_array_equal(decoded, tensor.float().numpy())


def test_reads_parts_into_a_buffer(tmp_path: Path) -> None:
    source = open_source(write(tmp_path, compose({"a": A, "b": B}, bytes(range(28)))))
    before, out = source.bytes_read, np.zeros(10, np.uint8)
    assert source.read("b", 1, 3, out).tolist() == [25, 26]
    assert out.tolist() == [25, 26, 0, 0, 0, 0, 0, 0, 0, 0]
    assert source.read("a", 24, 24).size == 0
    assert source.bytes_read == before + 2
    for start, stop in [(-1, 2), (0, 5), (3, 2)]:
        with pytest.raises(ValueError, match="not within"):
            source.read("b", start, stop)
    with pytest.raises(ValueError, match="contiguous"):
        source.read("a", 0, 8, out[::2])
    with pytest.raises(ValueError, match="hold 20 bytes"):
        source.read("a", 0, 20, out)
    with pytest.raises(KeyError):
        source.read("c", 0, 1)
    source.close()
    source.close()
    with pytest.raises(ValueError, match="closed"):
        source.read("b", 0, 1)


def test_threads_read_and_count_alike(tmp_path: Path) -> None:
    weights = np.arange(200_000, dtype=np.int32)
    safetensors.numpy.save_file({"w": weights}, tmp_path / "model.safetensors")
    source = open_source(tmp_path)
    before, wrong = source.bytes_read, []

    def walk(step: int) -> None:
        for start in range(0, weights.nbytes - step, step):
            if source.read("w", start, start + step).tobytes() != weights.tobytes()[start : start + step]:
                wrong.append(start)

    threads = [threading.Thread(target=walk, args=(step,)) for step in (4096, 4096, 5000, 5000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    fetched = sum(len(range(0, weights.nbytes - step, step)) * step for step in (4096, 4096, 5000, 5000))
    assert source.bytes_read - before == fetched


def test_short_reads_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda descriptor, buffers, at: preadv(descriptor, [buffers[0][:3]], at))
    source = open_source(write(tmp_path, compose({"a": A, "b": B}, bytes(range(28)))))
    assert source.read("a", 0, 24).tolist() == list(range(24))


def test_a_file_that_shrinks_is_damaged(tmp_path: Path) -> None:
    path = write(tmp_path, SOUND)
    source = open_source(path)
    os.truncate(path, path.stat().st_size - 2)
    with pytest.raises(DamagedFile, match=r"model.safetensors: tensor 'b': .* shrank"):
        source.read("b", 0, 4)


def entry(**changed: Any) -> bytes:
    """A file whose tensor `a` has these members changed."""
    return compose({"a": {**A, **changed}, "b": B})


DAMAGED = {
    "no bytes at all": (b"", "too few"),
    "seven bytes": (SOUND[:7], "too few"),
    "empty header": (compose("", length=0), "empty header"),
    "huge header": (compose({"a": A}, length=100_000_001), "limit"),
    "header of 2^64 - 1 bytes": (compose({"a": A}, length=2**64 - 1), "limit"),
    "header past the end": (compose({"a": A}, b"", length=1000), "only"),
    "header cut short": (compose({"a": A, "b": B}, length=40), "not JSON"),
    "not UTF-8": (compose(b'{"\xff":{"dtype":"I8","shape":[28],"data_offsets":[0,28]}}'), "not UTF-8"),
    "lone surrogate": (compose('{"\\ud800":{"dtype":"I8","shape":[28],"data_offsets":[0,28]}}'), "not UTF-8"),
    "not JSON": (compose("{nonsense}"), "not JSON"),
    "a list": (compose("[]"), "not a JSON object"),
    "a number": (compose("12"), "not a JSON object"),
    "leading space": (compose(" " + json.dumps({"a": A, "b": B})), "not a JSON object"),
    "text after the object": (compose(json.dumps({"a": A, "b": B}) + "x"), "goes on"),
    "trailing comma": (compose(json.dumps({"a": A, "b": B})[:-1] + ",}"), "not JSON"),
    "control character in a name": (compose('{"a\n":1}'), "not JSON"),
    "same tensor twice": (compose(f'{{"a":{json.dumps(A)},"a":{json.dumps(A)}}}'), "'a' twice"),
    "same key twice": (compose('{"a":{"dtype":"I8","dtype":"I8","shape":[28],"data_offsets":[0,28]}}'), "twice"),
    "metadata twice": (compose(f'{{"__metadata__":{{}},"__metadata__":{{}},"a":{json.dumps(A)}}}'), "twice"),
    "metadata key twice": (compose('{"__metadata__":{"k":"v","k":"w"}}'), "'k' twice"),
    "metadata is a list": (compose('{"__metadata__":[]}'), "not a JSON object"),
    "metadata value is a number": (compose('{"__metadata__":{"k":1}}'), "metadata value"),
    "name of 5000 bytes": (compose({"n" * 5000: A}, bytes(24)), "key of 5,002 bytes"),
    "metadata nested": (compose('{"__metadata__":{"k":{"l":"m"}}}'), "metadata value"),
    "nested deeply": (compose('{"a":' + "[" * 100_000 + "]" * 100_000 + "}"), "nested|not JSON"),
    "nested as deep as one value may": (compose('{"a":' + "[" * 1020 + "]" * 1020 + "}"), "nested"),
    "entry is a list": (compose({"a": [1]}), "not an object"),
    "entry is null": (compose({"a": None}), "not an object"),
    "missing dtype": (compose({"a": {"shape": [28], "data_offsets": [0, 28]}}), "keys"),
    "missing offsets": (compose({"a": {"dtype": "I8", "shape": [28]}}), "keys"),
    "dtype is a number": (entry(dtype=32), "dtype is not"),
    "dtype is a list": (entry(dtype=["F32"]), "dtype is not"),
    "shape is a number": (entry(shape=6), "shape"),
    "shape is an object": (entry(shape={"0": 6}), "shape"),
    "negative axis": (entry(shape=[-2, -3]), "shape"),
    "axis is true": (entry(shape=[True, 6]), "shape"),
    "axis is a float": (entry(shape=[2.0, 3]), "shape"),
    "axis is a string": (entry(shape=["2", 3]), "shape"),
    "axis is NaN": (compose('{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,24]}}'), "NaN"),
    "axis is huge": (entry(shape=[2**64, 3]), "shape"),
    "axis of a thousand digits": (compose('{"a":{"dtype":"I8","shape":[1' + "0" * 1000 + '],"data_offsets":[0,28]}}'), "shape"),
    "axis of five thousand digits": (compose('{"a":{"dtype":"I8","shape":[1' + "0" * 5000 + '],"data_offsets":[0,28]}}'), "JSON"),
    "shape overflows": (entry(shape=[2**62, 2**62]), "overflows"),
    "shape overflows to the right size": (entry(shape=[2**32, 2**32 + 6]), "overflows"),
    "65 axes": (entry(shape=[1] * 63 + [2, 3]), "at most 64"),
    "shape of a hundred thousand axes": (entry(shape=[1] * 100_000), "longer than|at most"),
    "offsets are three": (entry(data_offsets=[0, 12, 24]), "pair"),
    "offsets reversed": (entry(data_offsets=[24, 0]), "reversed"),
    "offsets negative": (entry(data_offsets=[-24, 0]), "pair"),
    "offsets are floats": (entry(data_offsets=[0.0, 24.0]), "pair"),
    "offsets are booleans": (entry(data_offsets=[False, 24]), "pair"),
    "offsets are strings": (entry(data_offsets=["0", "24"]), "pair"),
    "offsets are huge": (entry(data_offsets=[2**64, 2**64 + 24]), "pair"),
    "offsets far past the end": (entry(data_offsets=[2**62, 2**62 + 24]), "past the end"),
    "fewer bytes than the shape": (entry(data_offsets=[0, 20]), "20 bytes"),
    "more bytes than the shape": (compose({"a": {**A, "data_offsets": [0, 28]}}), "28 bytes"),
    "data cut short": (SOUND[:-1], "past the end"),
    "no data": (compose({"a": A, "b": B}, b""), "past the end"),
    "overlap": (compose({"a": A, "b": {**B, "data_offsets": [20, 24]}}, bytes(24)), "overlaps"),
    "same bytes twice": (compose({"a": A, "b": A}, bytes(24)), "overlaps"),
    "hole at the start": (compose({"b": B}), "belong to no tensor"),
    "hole in the middle": (compose({"a": A, "b": {**B, "data_offsets": [25, 29]}}, bytes(29)), "belong to no tensor"),
    "bytes after the last tensor": (SOUND + b"\0", "after the last tensor"),
    "no tensors": (compose({}, b""), "no tensors"),
    "only metadata": (compose({"__metadata__": {"a": "b"}}, b""), "no tensors"),
}
UNSUPPORTED = {
    "unknown dtype": (entry(dtype="ZZ"), "dtype 'ZZ'"),
    "lower-case dtype": (entry(dtype="f32"), "dtype 'f32'"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files_say_what_is_wrong(case: str, tmp_path: Path) -> None:
    content, words = DAMAGED[case]
    with pytest.raises(DamagedFile, match=words) as caught:
        open_source(write(tmp_path, content))
    assert str(caught.value).startswith(str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_unsupported_files_say_what_is_missing(case: str, tmp_path: Path) -> None:
    content, words = UNSUPPORTED[case]
    with pytest.raises(UnsupportedFormat, match=words) as caught:
        open_source(write(tmp_path, content))
    assert str(caught.value).startswith(str(tmp_path / "model.safetensors"))


def test_a_failed_open_leaves_no_file_open(tmp_path: Path) -> None:
    before = len(list(OPEN_FILES.iterdir()))
    for content, _ in DAMAGED.values():
        with pytest.raises(SourceError):
            open_source(write(tmp_path, content))
    assert len(list(OPEN_FILES.iterdir())) == before


def test_header_with_too_many_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict_json, "MAX_MEMBERS", 1)
    with pytest.raises(UnsupportedFormat, match="more than 1 members"):
        open_source(write(tmp_path, SOUND))


EMPTY = {"dtype": "F32", "shape": [0, 4], "data_offsets": [28, 28]}
ODD = {
    "a key beside those of the format": (entry(extra=1), {"a", "b"}, ""),
    "metadata that is null": (compose({"__metadata__": None, "a": A, "b": B}), {"a", "b"}, ""),
    "a tensor without numbers": (compose({"a": A, "b": B, "z": EMPTY}), {"a", "b"}, "Tensors without a number are left out: z."),
    "an empty state of bytes": (compose({"z": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}, "a": A, "b": B}), {"a", "b"}, "z."),
    "four bits a number": (compose({"a": {"dtype": "F4", "shape": [56], "data_offsets": [0, 28]}}), {"a"}, ""),
    "six bits a number": (compose({"a": {"dtype": "F6_E2M3", "shape": [32], "data_offsets": [0, 24]}, "b": B}), {"a", "b"}, ""),
}


@pytest.mark.parametrize("case", ODD)
def test_what_the_library_reads_is_read(case: str, tmp_path: Path) -> None:
    content, tensors, note = ODD[case]
    source = open_source(write(tmp_path, content))
    assert set(source.tensors) == tensors
    assert note in " ".join(source.notes)


def test_complex_numbers_are_pairs(tmp_path: Path) -> None:
    numbers = np.array([1 + 2j, 3 - 4j, 0.5j], np.complex64)
    described = {"a": {"dtype": "C64", "shape": [3], "data_offsets": [0, 24]}, "b": B}
    source = open_source(write(tmp_path, compose(described, numbers.tobytes() + bytes(4))))
    assert (source.tensors["a"].dtype, source.tensors["a"].shape) == ("F32", (3, 2))
    assert source.read("a", 0, 24).view(np.float32).tolist() == [1, 2, 3, -4, 0, 0.5]


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fnuz, torch.float8_e5m2fnuz])
def test_small_floats_without_negative_zero(dtype: torch.dtype, tmp_path: Path) -> None:
    numbers = torch.arange(256, dtype=torch.uint8).view(dtype)
    safetensors.torch.save_file({"a": numbers}, tmp_path / "model.safetensors")
    source = open_source(tmp_path)
    decoded = values.decode(source.tensors["a"].dtype, source.read("a", 0, 256))
    assert np.array_equal(decoded, numbers.float().numpy(), equal_nan=True)


def test_white_space_and_order_of_keys_do_not_matter(tmp_path: Path) -> None:
    turned = {"b": dict(reversed(B.items())), "__metadata__": {"x": "y"}, "a": dict(reversed(A.items()))}
    source = open_source(write(tmp_path, compose(json.dumps(turned, indent=3) + "   \n")))
    assert {name: info.nbytes for name, info in source.tensors.items()} == {"a": 24, "b": 4}


SNIPPETS = [b'"', b"{", b"}", b"[", b"]", b",", b"-", b"9", b"1e9", b"null"]


def mutate(data: st.DataObject, content: bytes) -> bytes:
    """A few random changes: bytes overwritten, cut out, repeated or put in."""
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed)))
        length = data.draw(st.integers(0, 12))
        snippet = data.draw(st.one_of(st.binary(max_size=4), st.sampled_from(SNIPPETS)))
        changed[at : at + length] = snippet
    return bytes(changed)


@settings(deadline=None, max_examples=400)
@given(data=st.data())
def test_no_mutation_gets_past_the_checks(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A changed file is either refused with a SourceError or still a sound file that the safetensors library reads alike."""
    content = mutate(data, SOUND)
    path = write(tmp_path_factory.getbasetemp(), content, "mutated.safetensors")
    try:
        source = open_source(path)
    except SourceError as error:
        named = str(path) in str(error)
        if not named:
            raise
        return
    library = safetensors.deserialize(content)
    assert sorted(name for name, _ in library) == list(source.tensors)
    for name, found in library:
        assert found["data"] == source.read(name, 0, source.tensors[name].nbytes).tobytes()
    source.close()


def test_bfloat16_bytes_are_as_stored(tmp_path: Path) -> None:
    array = np.arange(6).astype(ml_dtypes.bfloat16).view(np.uint16)
    header = {"w": {"dtype": "BF16", "shape": [6], "data_offsets": [0, 12]}}
    source = open_source(write(tmp_path, compose(header, array.tobytes())))
    assert values.decode("BF16", source.read("w", 0, 12)).tolist() == [0, 1, 2, 3, 4, 5]
