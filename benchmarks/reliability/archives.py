"""Forged exports: a sound archive of a registry with other entries, lines, digests or bytes. Each is refused, and changes nothing."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from blake3 import blake3

from modelkin_registry.sharing.shared_files import MANIFEST, MODELS

Entries = dict[str, bytes]
Change = Callable[[Entries, Random], None]
NO_TEXTS: tuple[Any, ...] = (1, None, [], "", "x" * 5000, "\ud800", "a\nb")
NO_TIMES: tuple[Any, ...] = ("yesterday", "2026-01-01", 5, None, "2026-01-01T00:00:00+02:00", "2026-13-01T00:00:00+00:00")
NO_COUNTS: tuple[Any, ...] = (-1, 1.5, "1", None, 1 << 80, True)


def read(data: bytes) -> Entries:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(entries: Entries, *, deflated: bool = False) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return out.getvalue()


def consistent(entries: Entries) -> None:
    """Digests and numbers that agree again, as a hostile author would make them."""
    said = json.loads(entries[MANIFEST])
    said |= {"models_digest": blake3(entries[MODELS]).hexdigest(), "models": entries[MODELS].count(b"\n")}
    said["fingerprints"] = sum(name.startswith("fingerprints/") for name in entries)
    entries[MANIFEST] = json.dumps(said).encode()


def in_manifest(field: str, value: Any) -> Change:
    def change(entries: Entries, _: Random) -> None:
        said = json.loads(entries[MANIFEST])
        entries[MANIFEST] = json.dumps(said | {field: value}).encode()

    return change


def in_lines(change: Callable[[dict[str, Any]], Any]) -> Change:
    """Another value in one model's line, under digests that agree."""

    def forge(entries: Entries, random: Random) -> None:
        lines = [json.loads(line) for line in entries[MODELS].splitlines()]
        change(random.choice(lines))
        entries[MODELS] = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        consistent(entries)

    return forge


def field(name: str, value: Any) -> Change:
    return in_lines(lambda model: model.update({name: value}))


def deeper(where: str, name: str, value: Any) -> Change:
    """A field of the first source, file, claim or fingerprint."""

    def change(model: dict[str, Any]) -> None:
        revision = model["revisions"][0]
        held = {
            "revision": revision,
            "source": revision["sources"][0],
            "claim": model["claims"][0],
            "fingerprint": revision["fingerprints"][0],
        }
        held[where][name] = value

    return in_lines(change)


def with_blob(change: Callable[[bytes, Random], bytes], *, agreeing: bool) -> Change:
    """Another fingerprint in the place of one; `agreeing`: with its digest and size wherever they are told."""

    def forge(entries: Entries, random: Random) -> None:
        name = random.choice(sorted(name for name in entries if name.startswith("fingerprints/")))
        former, data = name.removeprefix("fingerprints/").removesuffix(".modelkin"), change(entries[name], random)
        if not agreeing:
            entries[name] = data
            return
        size, digest = len(entries.pop(name)), blake3(data).hexdigest()
        entries[f"fingerprints/{digest}.modelkin"] = data
        lines = entries[MODELS].replace(former.encode(), digest.encode())
        entries[MODELS] = lines.replace(f'"size":{size}'.encode(), f'"size":{len(data)}'.encode())
        consistent(entries)

    return forge


def entry(name: str, data: bytes = b"x") -> Change:
    return lambda entries, _: entries.update({name: data})


def without(name: str) -> Change:
    def change(entries: Entries, random: Random) -> None:
        del entries[name if name in entries else random.choice(sorted(one for one in entries if one.startswith(name)))]

    return change


def lines(data: Callable[[bytes], bytes]) -> Change:
    def change(entries: Entries, _: Random) -> None:
        entries[MODELS] = data(entries[MODELS])
        consistent(entries)

    return change


CHANGES: dict[str, Change] = (
    {f"version {value!r}": in_manifest("version", value) for value in (0, 2, "1", None)}
    | {f"spec {value!r}": in_manifest("spec", value) for value in ("1", "99", 2, None)}
    | {f"key {value!r}": in_manifest("key", value) for value in ("private-0000", 1, None)}
    | {f"models {value!r:.20}": in_manifest("models", value) for value in (*NO_COUNTS, 0, 1, 1 << 40)}
    | {f"fingerprints {value!r:.20}": in_manifest("fingerprints", value) for value in (*NO_COUNTS, 0, 1 << 40)}
    | {"digest of models": in_manifest("models_digest", "0" * 64)}
    | {f"name {number}": field("name", value) for number, value in enumerate(NO_TEXTS)}
    | {f"added {number}": field("added", value) for number, value in enumerate(NO_TIMES)}
    | {f"former names {number}": field("former_names", value) for number, value in enumerate(("a", 1, [1], ["\ud800"], ["a"] * 100_001))}
    | {f"revisions {number}": field("revisions", value) for number, value in enumerate(([], {}, 1, [1], [{}], None))}
    | {f"claims {number}": field("claims", value) for number, value in enumerate(({}, 1, [1], [{"kind": "a"}], None))}
    | {f"structure {number}": field("structure", value) for number, value in enumerate(({}, [1], [{"kind": "code"}], None))}
    | {"unknown field": field("extra", 1)}
    | {f"source {number}": deeper("source", "who", value) for number, value in enumerate(NO_TEXTS[:3])}
    | {f"source's time {number}": deeper("source", "last_seen", value) for number, value in enumerate(NO_TIMES)}
    | {f"claim {number}": deeper("claim", "value", value) for number, value in enumerate(NO_TEXTS[:3])}
    | {f"digest {number}": deeper("fingerprint", "digest", value) for number, value in enumerate(("", "../x", "0" * 64, "A" * 64, 1))}
    | {f"size {number}": deeper("fingerprint", "size", value) for number, value in enumerate((*NO_COUNTS, 0, 1, 1 << 40))}
    | {f"entry {name!r}": entry(name) for name in ("x", "../x", "/etc/x", "fingerprints/x", "fingerprints/../../x", "C:\\x")}
    | {f"without {name}": without(name) for name in (MANIFEST, MODELS, "fingerprints/")}
    | {"fingerprint cut": with_blob(lambda data, _: data[:-5], agreeing=False)}
    | {"fingerprint flipped": with_blob(lambda data, random: _flipped(data, random), agreeing=False)}
    | {"fingerprint cut, digests agree": with_blob(lambda data, _: data[:-5], agreeing=True)}
    | {"fingerprint of nothing, digests agree": with_blob(lambda _, __: b"", agreeing=True)}
    | {"lines cut": lines(lambda data: data[:-3])}
    | {"lines no UTF-8": lines(lambda data: data.replace(b'"name":"', b'"name":"\xff', 1))}
    | {"lines NaN": lines(lambda data: data.replace(b'"size":', b'"size":NaN,"a":', 1))}
    | {"lines no JSON": lines(lambda data: data + b"x\n")}
    | {"lines deep": lines(lambda data: data + b"[" * 1_000_000 + b"\n")}
    | {"lines long": lines(lambda data: data + b'"' + b"x" * (65 << 20) + b'"\n')}
    | {"manifest no JSON": lambda entries, _: entries.update({MANIFEST: b"{"})}
    | {"manifest a list": lambda entries, _: entries.update({MANIFEST: b"[]"})}
    | {"manifest long": lambda entries, _: entries.update({MANIFEST: b" " * (1 << 17)})}
)


def _flipped(data: bytes, random: Random) -> bytes:
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def _zeroed(data: bytes, random: Random) -> bytes:
    at = random.randrange(0, len(data) - 512)
    return data[:at] + bytes(512) + data[at + 512 :]


def _twice(data: bytes, _: Random) -> bytes:
    """An entry twice under one name."""
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr(zipfile.ZipInfo(MODELS), b"")
    return out.getvalue()


BYTES: dict[str, Callable[[bytes, Random], bytes]] = {
    **{f"cut {number}": lambda data, random: data[: random.randrange(len(data))] for number in range(12)},
    **{f"zeroed {number}": _zeroed for number in range(12)},
    "empty": lambda _, __: b"",
    "zeros": lambda data, _: bytes(len(data)),
    "text": lambda _, __: b"hello",
    "no entries": lambda _, __: packed({}),
    "a bomb": lambda data, _: packed(read(data) | {MODELS: b" " * (200 << 20)}, deflated=True),
}


def forged(sound: bytes, seed: int) -> Iterator[tuple[str, bytes]]:
    """The sound archive forged in each way."""
    for number, (name, change) in enumerate(sorted(CHANGES.items())):
        entries = read(sound)
        change(entries, Random(seed + number))
        yield name, packed(entries)
    for number, (name, alter) in enumerate(sorted((BYTES | {"an entry twice": _twice}).items())):
        yield name, alter(sound, Random(seed + 1000 + number))
