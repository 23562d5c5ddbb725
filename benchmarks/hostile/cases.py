"""Damaged, hostile and odd weights files of every kind we could think of, made from one small sound model. Same seed, same bytes."""

from __future__ import annotations

import json
import os
import pickle
import random
from collections.abc import Iterable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from msgspec import Struct

from benchmarks.hostile.containers import write_cases
from benchmarks.hostile.expected import NOTED, REFUSED

SEED = 20260717
HIDDEN, MIDDLE, TOKENS, LAYERS = 32, 48, 64, 2
LARGE_HEADER = 60_000_000  # bytes of the headers that try to exhaust memory; the format allows 100 MB
INDEX = "model.safetensors.index.json"
NUMPY_TYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
UNKNOWN_DTYPES = ["F4", "F6_E2M3", "F6_E3M2", "F8_E4M3FNUZ", "C64", "I4", "F128", "ZZ", ""]
UNKNOWN_DTYPES += ["f32", "float32", "F32 ", "BF16\0", "Q" * 500]
Header = dict[str, Any]


class Case(Struct, frozen=True):
    """One source, and what has to become of it. `large`: takes seconds or much disk."""

    kind: str
    path: Path
    outcome: str = REFUSED
    large: bool = False


def sound_model(dtype: str = "F32") -> tuple[Header, bytes]:
    """Header and data of a two-layer model with weights as they come from an initialisation."""
    shapes = {"model.embed_tokens.weight": (TOKENS, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        for role in ("q", "k", "v", "o"):
            shapes[f"model.layers.{layer}.self_attn.{role}_proj.weight"] = (HIDDEN, HIDDEN)
        for role in ("gate", "up"):
            shapes[f"model.layers.{layer}.mlp.{role}_proj.weight"] = (MIDDLE, HIDDEN)
        shapes[f"model.layers.{layer}.mlp.down_proj.weight"] = (HIDDEN, MIDDLE)
        shapes[f"model.layers.{layer}.input_layernorm.weight"] = (HIDDEN,)
    generator, header, data = np.random.default_rng(SEED), {}, b""
    for name, shape in shapes.items():
        raw = (generator.standard_normal(shape) * 0.02 + (len(shape) == 1)).astype(NUMPY_TYPES[dtype]).tobytes()
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    return header, data


def compose(header: Header | bytes, data: bytes, length: int | None = None) -> bytes:
    """A file of these parts; `length` replaces the true length of the header."""
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def make_cases(folder: Path, large: bool = True) -> list[Case]:
    """Write all cases below `folder`, in a fixed order. `large` includes those that take seconds and much disk."""
    rng = random.Random(SEED)
    header, data = sound_model()
    cases = []
    makers = {
        "truncated": truncated,
        "header length": lying_lengths,
        "broken JSON": broken_json,
        "offset digit": wrong_digits,
        "lying entry": lying_entries,
        "odd header": odd_headers,
        "other contents": other_contents,
        "odd but read": odd_but_read,
    }
    for kind, maker in makers.items():
        for number, content in enumerate(maker(header, data, rng)):
            path = folder / f"{kind.replace(' ', '-')}-{number:03}.safetensors"
            path.write_bytes(content)
            cases.append(Case(kind, path, NOTED if maker is odd_but_read else REFUSED))
    cases += not_finite(folder, rng)
    cases += other_formats(folder)
    cases += links(folder)
    cases += indexes(folder)
    cases += [Case(kind, path, outcome) for kind, path, outcome in write_cases(folder, bomb_mark(folder), SEED)]
    return cases + (large_headers(folder) if large else [])


def truncated(header: Header, data: bytes, rng: random.Random) -> Iterator[bytes]:
    content = compose(header, data)
    start = len(content) - len(data)
    lengths = [*range(10), *rng.sample(range(10, start), 25), start, *rng.sample(range(start + 1, len(content) - 1), 24), len(content) - 1]
    for length in lengths:
        yield content[:length]


def lying_lengths(header: Header, data: bytes, rng: random.Random) -> Iterator[bytes]:
    true = len(compose(header, b"")) - 8
    whole = true + len(data)
    fixed = [0, 1, 2, true - 1, true + 1, true + 8, whole - 1, whole, whole + 1]
    fixed += [100_000_000, 100_000_001, 2**31, 2**32 + true, 2**63, 2**64 - 1]
    for length in fixed + [rng.randrange(2, true) for _ in range(10)]:
        yield compose(header, data, length)


def broken_json(header: Header, data: bytes, rng: random.Random) -> Iterator[bytes]:
    """One mark of the header's structure overwritten by something that JSON has no use for."""
    text = compose(header, b"")[8:]
    marks = [at for at, byte in enumerate(text) if byte in b'{}[]:,"']
    for at in rng.sample(marks, 40):
        yield compose(text[:at] + rng.choice([b"!", b"\x00", b"\xff", b"'", b"\\"]) + text[at + 1 :], data)


def wrong_digits(header: Header, data: bytes, rng: random.Random) -> Iterator[bytes]:
    """One number of an entry changed a little, the way a faulty writer or a clumsy attacker would."""
    for _ in range(30):
        changed = json.loads(json.dumps(header))
        member = rng.choice(["shape", "data_offsets"])
        numbers = changed[rng.choice(sorted(changed))][member]
        numbers[rng.randrange(len(numbers))] += rng.choice([-4, -1, 1, 4, 1000])
        yield compose(changed, data)


def lying_entries(header: Header, data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Every way of being wrong that one member of an entry has, each in two tensors."""
    first, *_, last = names = list(header)
    shape, (begin, end) = [MIDDLE, HIDDEN], [0, MIDDLE * HIDDEN * 4]
    dtypes = (*UNKNOWN_DTYPES, 1, None, True, ["F32"], {"F32": 1}, "F64", "F16", "I8")
    shapes = (None, 6, "6", {}, [True, 6], [2.0, 3], ["2"], [[2]], [-1, -1], [2**31, 2**31], [2**62, 8], [2**64])
    empty_shapes = ([], [1] * 65, [0], [0, 5], [*shape, 0], [10**400])
    pairs = (None, 7, [], [0], [0, 1, 2], [end, begin], [-4, end - 4], [0.0, 4.0], [False, True], ["0", "4"])
    far_pairs = ([2**62, 2**62 + 4], [2**63, 2**63 + 4], [2**64, 2**64], [0, 2**64 - 1], [len(data), len(data)])
    changes: list[dict[str, Any]] = [{"dtype": value} for value in dtypes]
    changes += [{"shape": value} for value in (*shapes, *empty_shapes)]
    changes += [{"data_offsets": value} for value in (*pairs, *far_pairs)]
    changes += [{member: header[names[3]][member] for member in ("shape", "data_offsets")}]
    for change in changes:
        for name in (first, rng.choice([*names[1:3], *names[4:-1], last])):
            yield compose({**header, name: {**header[name], **change}}, data)


def odd_headers(header: Header, data: bytes, _: random.Random) -> Iterator[bytes]:
    """Headers that are wrong as a whole."""
    text = compose(header, b"")[8:]
    first = next(iter(header))
    member = json.dumps(first).encode() + b":" + json.dumps(header[first]).encode()
    for whole in (b"", b"null", b"12", b'"text"', b"[]", b"[" + text + b"]"):
        yield compose(whole, data)
    for start in (b" ", b"\n", b"\xef\xbb\xbf", b"\xff\xfe", b"\0"):
        yield compose(start + text, data)
    for end in (b"{}", b"]", b"x", b"\0", b",", b"//"):
        yield compose(text + end, data)
    for repeated in (member, b'"__metadata__":{},"__metadata__":{}', b'"__metadata__":{"a":"b","a":"c"}'):
        yield compose(b"{" + repeated + b"," + text[1:], data)
    yield compose(text.replace(b'"dtype":"F32"', b'"dtype":"F32","dtype":"F32"', 1), data)
    for metadata in (b"[]", b"1", b'"text"', b'{"a":1}', b'{"a":null}', b'{"a":{"b":"c"}}', b"{1:2}"):
        yield compose(b'{"__metadata__":' + metadata + b"," + text[1:], data)
    for value in (b"[" * 900 + b"]" * 900, b"[" * 100_000, b'{"a":' * 5000, b"NaN", b"Infinity", b"1e400", b"9" * 5000, b"true"):
        yield compose(b'{"bad":' + value + b"," + text[1:], data)
    for name in (b'"\xff"', b'"\xc3\x28"', b'"\xed\xa0\x80"', b'"\\ud800"', b'"\\x"', b'"a\nb"', b"'a'", b"a", b"1"):
        yield compose(b"{" + name + b":" + json.dumps(header[first]).encode() + b"," + text[1:], data)
    yield from holes_and_overlaps(header, data)


def holes_and_overlaps(header: Header, data: bytes) -> Iterator[bytes]:
    """Entries that are sound one by one but do not cover the data exactly once."""
    names = list(header)
    for extra in (1, 4, 4096):
        yield compose(header, data + bytes(extra))
        moved = {name: {**entry, "data_offsets": [at + extra for at in entry["data_offsets"]]} for name, entry in header.items()}
        yield compose(moved, bytes(extra) + data)
    for name in (names[0], names[len(names) // 2], names[-1]):
        yield compose({other: entry for other, entry in header.items() if other != name}, data)
        yield compose({**header, "twin": header[name]}, data)
    yield compose({}, b"")
    yield compose({}, data)


def odd_but_read(header: Header, data: bytes, _: random.Random) -> Iterator[bytes]:
    """What the format's own library reads: no metadata, other members in an entry, tensors without a number."""
    text = compose(header, b"")[8:]
    yield compose(b'{"__metadata__":null,' + text[1:], data)
    for name in (next(iter(header)), list(header)[-1]):
        yield compose({**header, name: {**header[name], "extra": 1}}, data)
        begin, _end = header[name]["data_offsets"]
        yield compose({**header, "empty": {"dtype": "F32", "shape": [0, HIDDEN], "data_offsets": [begin, begin]}}, data)


def other_contents(_: Header, data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Files of another kind under a safetensors name."""
    for magic in (
        b"GGUF\x03\0\0\0",
        b"PK\x03\x04",
        b"\x80\x02}q\0.",
        b"\x89HDF\r\n\x1a\n",
        b"<!DOCTYPE html><html>",
        b"version https://git-lfs",
    ):
        yield magic + data
    yield bytes(4096)
    yield b"\xff" * 4096
    for _number in range(6):
        yield rng.randbytes(4096)


def not_finite(folder: Path, rng: random.Random) -> list[Case]:
    """Sound files with NaN or infinite weights: one number, a row, or a whole tensor."""
    cases = []
    for dtype, numpy_type in NUMPY_TYPES.items():
        header, data = sound_model(dtype)
        for value in (np.nan, np.inf, -np.inf):
            for count in (1, HIDDEN, HIDDEN * HIDDEN):
                begin, _ = header[rng.choice([name for name in header if "proj" in name])]["data_offsets"]
                bad = np.full(count, value).astype(numpy_type).tobytes()
                path = folder / f"not-finite-{len(cases):03}.safetensors"
                path.write_bytes(compose(header, data[:begin] + bad + data[begin + len(bad) :]))
                cases.append(Case("not finite", path, NOTED))
    return cases


class Bomb:
    """Unpickling this makes a file; nothing may ever unpickle it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def bomb_mark(folder: Path) -> Path:
    """What appears if a pickle was run."""
    return folder / "a-pickle-was-run"


def other_formats(folder: Path) -> list[Case]:
    """Pickles that run code under every suffix, alone and in folders."""
    cases, bomb = [], pickle.dumps(Bomb(bomb_mark(folder)), protocol=2)
    for suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".gguf", ".onnx", ".h5", ".safetensors"):
        path = folder / f"pickle{suffix}"
        path.write_bytes(bomb)
        (folder / f"folder-of{suffix.replace('.', '-')}").mkdir()
        inside = folder / f"folder-of{suffix.replace('.', '-')}" / f"pytorch_model{suffix}"
        inside.write_bytes(bomb)
        cases += [Case("other format", path), Case("other format", inside.parent)]
    return cases


def links(folder: Path) -> list[Case]:
    """Links out of the folder, links to nothing, pipes, folders and devices under a safetensors name."""
    outside = folder / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(compose(*sound_model()))
    cases = []
    targets = {
        "absolute": str(outside / "victim"),
        "relative": "../outside/victim",
        "roundabout": "../links/../outside/victim",
        "passwd": "/etc/passwd",
        "zero": "/dev/zero",
        "nothing": "nothing",
        "itself": "link-itself.safetensors",
        "parent": "..",
        "fake-cache": "../../blobs/victim",
    }
    (folder / "links").mkdir()
    for name, target in targets.items():
        path = folder / "links" / f"link-{name}.safetensors"
        path.symlink_to(target)
        alone = folder / f"linked-{name}"
        alone.mkdir()
        (alone / "model.safetensors").symlink_to(target if name != "itself" else "model.safetensors")
        cases += [Case("link", path), Case("link", alone)]
    pipe, directory = folder / "pipe.safetensors", folder / "directory.safetensors"
    os.mkfifo(pipe)
    directory.mkdir()
    (folder / "folder-with-a-pipe").mkdir()
    os.mkfifo(folder / "folder-with-a-pipe" / "model.safetensors")
    missing = folder / "missing.safetensors"
    return [*cases, *(Case("not a file", path) for path in (pipe, directory, folder / "folder-with-a-pipe", missing, Path("/dev/zero")))]


def indexes(folder: Path) -> list[Case]:
    """Folders whose shard index leads astray or contradicts itself."""
    shard = "model-00001-of-00001.safetensors"
    header, data = sound_model()
    name = next(iter(header))
    sound = dict.fromkeys(header, shard)
    shards: list[Any] = ["../outside/victim", "/etc/passwd", "..", ".", "", "a/b.safetensors", "..\\x.safetensors", "x\0.safetensors"]
    shards += ["%2e%2e/x.safetensors", "link.safetensors", "pipe.safetensors", INDEX, ".safetensors", "n" * 5000]
    shards += [1, None, [shard], {"file": shard}, True]
    maps: list[Any] = [{**sound, name: target} for target in shards]
    maps += [{}, [], None, "text"]
    texts = [json.dumps({"metadata": {}, "weight_map": value}).encode() for value in maps]
    good = json.dumps(sound).encode()
    texts += [b"", b"[]", b"{}", b"null", b'{"weight_map":' + good, b'{"weight_map":' + good + b',"weight_map":' + good + b"}"]
    texts += [b'{"weight_map":{' + good[1:-1] + b"," + good[1:-1] + b"}}", b'{"metadata":' + b"[" * 100_000, b"\xff\xfe{}", bytes(1000)]
    stale: list[Header] = [{**sound, name: "missing.safetensors"}, {**sound, "no.such.tensor": shard}]  # beside complete shards
    texts += [json.dumps({"metadata": {}, "weight_map": value}).encode() for value in stale]
    cases = []
    for number, text in enumerate(texts):
        path = folder / f"index-{number:03}"
        path.mkdir()
        (path / shard).write_bytes(compose(header, data))
        (path / "link.safetensors").symlink_to("../outside/victim")
        os.mkfifo(path / "pipe.safetensors")
        (path / INDEX).write_bytes(text)
        cases.append(Case("index", path, REFUSED if number < len(texts) - len(stale) else NOTED))
    os.truncate(cases[len(maps)].path / INDEX, 10**11)
    return cases


def large_headers(folder: Path) -> list[Case]:
    """Headers within the format's limit that would take gigabytes once parsed. Written bit by bit, so that making them takes no memory."""
    size = LARGE_HEADER
    entries = (b'"%07d":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},' % number for number in range(size // 55))
    texts: dict[str, tuple[bytes, Iterable[bytes], bytes]] = {
        "brackets": (b'{"a":', repeat(b"[],", size // 3), b""),
        "depth": (b'{"a":', repeat(b"[", size), b""),
        "shape": (b'{"a":{"dtype":"I8","shape":[', repeat(b"1,", size // 2), b'1],"data_offsets":[0,1]}}'),
        "name": (b'{"', repeat(b"n", size), b'":{"dtype":"I8","shape":[2],"data_offsets":[0,1]}}'),
        "escapes": (b'{"', repeat(b"\\u00e9", size // 6), b'":1}'),
        "metadata": (b'{"__metadata__":{', (b'"%d":"",' % number for number in range(size // 12)), b'"":""}}'),
        "metadata-value": (b'{"__metadata__":{"a":"', repeat("\U0001f600".encode(), size // 4), b'"}}'),
        "entries": (b"{", entries, b'"end":1}'),
        "blank": (b"{", repeat(b" ", size), b""),
    }
    cases = []
    for name, (start, middle, end) in texts.items():
        path = folder / f"large-{name}.safetensors"
        write_large(path, start, middle, end)
        cases.append(Case("large header", path, large=True))
    sparse = folder / "large-sparse.safetensors"
    sparse.write_bytes((99_999_999).to_bytes(8, "little") + b"{")
    os.truncate(sparse, 10**12)
    return [*cases, Case("large header", sparse, large=True)]


def write_large(path: Path, start: bytes, middle: Iterable[bytes], end: bytes) -> None:
    """A file with this header, its true length before it and one byte of data behind it."""
    with path.open("wb") as file:
        file.write(bytes(8) + start)
        file.writelines(middle)
        file.write(end)
        length = file.tell() - 8
        file.write(b"\0")
        file.seek(0)
        file.write(length.to_bytes(8, "little"))
