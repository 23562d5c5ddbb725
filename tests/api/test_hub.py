"""Models of the Hub asked about by their id: what is fetched, what is kept, and what happens when the Hub fails."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import gguf_files
import modelkin
import tflite_files
from calls import run
from hub_server import Hub, serving
from modelkin.words import size
from modelkin_indexer.hub.cache import RangeCache
from modelkin_indexer.results import fingerprint as fingerprints
from tiny_models import save_model, tiny_llama, tuned

CONFIG = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 256, "num_attention_heads": 4}
GGUF = {"block_count": 2, "attention.head_count": 4, "embedding_length": 256, "feed_forward_length": 1024}
WIDE, TOKENS = 1024, 4000
Files = dict[str, bytes]


def wide_llama(seed: int) -> dict[str, Any]:
    """A model of 10 MB, of which level probe needs a small part."""
    numbers = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (TOKENS, 256), "model.norm.weight": (256,)}
    for layer in range(2):
        at = f"model.layers.{layer}."
        shapes |= {f"{at}self_attn.{name}_proj.weight": (256, 256) for name in "qkvo"}
        shapes |= {f"{at}mlp.{name}_proj.weight": (WIDE, 256) for name in ("gate", "up")} | {f"{at}mlp.down_proj.weight": (256, WIDE)}
        shapes |= {f"{at}{name}_layernorm.weight": (256,) for name in ("input", "post_attention")}
    return {name: numbers.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def files_of(tensors: dict[str, Any], readme: str = "---\nlicense: mit\n---\n") -> Files:
    return {"model.safetensors": safetensors.numpy.save(tensors), "config.json": json.dumps(CONFIG).encode(), "README.md": readme.encode()}


@pytest.fixture(scope="module")
def wide() -> Files:
    return files_of(wide_llama(1))


@pytest.fixture
def hub(own_folder: Path, monkeypatch: pytest.MonkeyPatch, wide: Files) -> Iterator[Hub]:
    import huggingface_hub.constants

    with serving(Hub()) as hub:
        monkeypatch.delenv("MODELKIN_OFFLINE")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        monkeypatch.setattr("modelkin_indexer.hub.client.FIRST_WAIT", 0.001)
        hub.put("org/wide", wide)
        yield hub


def fingerprint(source: str, *arguments: str, code: int = 0) -> fingerprints.Fingerprint | str:
    done = run("fingerprint", source, "-o", "made.modelkin", *arguments)
    assert done.exit_code == code, done.output
    return done.output if code else fingerprints.load(Path("made.modelkin"))


def same(a: fingerprints.Fingerprint | str, b: fingerprints.Fingerprint | str) -> bool:
    assert isinstance(a, fingerprints.Fingerprint)
    assert isinstance(b, fingerprints.Fingerprint)
    assert len(a.vectors.sketch) > 0
    return np.array_equal(a.matrices.probe, b.matrices.probe) and np.array_equal(a.vectors.sketch, b.vectors.sketch)


def local(files: Files, name: str = "here") -> str:
    Path(name).mkdir()
    for file, data in files.items():
        (Path(name) / file).write_bytes(data)
    return name


def test_probe_fetches_a_small_part_and_gives_the_same_fingerprint(hub: Hub, wide: Files) -> None:
    found = fingerprint("org/wide")
    assert hub.sent < len(wide["model.safetensors"]) / 3
    assert same(found, fingerprint(local(wide), "--level", "probe"))


def test_full_streams_everything(hub: Hub, wide: Files) -> None:
    found = fingerprint("org/wide", "--level", "full")
    here = fingerprint(local(wide))
    assert same(found, here)
    assert isinstance(found, fingerprints.Fingerprint)
    assert isinstance(here, fingerprints.Fingerprint)
    assert np.array_equal(found.matrices.gram, here.matrices.gram)
    assert np.array_equal(found.matrices.digest, here.matrices.digest)


def test_a_second_query_fetches_no_weights(hub: Hub) -> None:
    assert run("add", str(save_model(Path("tiny"), tiny_llama(1)))).exit_code == 0
    first = run("query", "org/wide", "--json")
    assert first.exit_code == 0, first.output
    said = " ".join(json.loads(first.stdout)["warnings"])
    assert f"would read all {size(len(hub.repos['org/wide'].files['model.safetensors']))}" in said
    assert "--level full" in said
    asked = dict(hub.requests)
    second = run("query", "org/wide", "--json")
    assert json.loads(second.stdout)["query"] == json.loads(first.stdout)["query"]
    assert {kind: count - asked[kind] for kind, count in hub.requests.items() if count > asked[kind]} == {"describe": 1}


def test_cached_ranges_that_are_damaged_are_fetched_again(hub: Hub) -> None:
    good = fingerprint("org/wide")
    kept = [path for path in Path("cache").rglob("*-*") if path.is_file()]
    assert kept
    for path in kept:
        data = bytearray(path.read_bytes())
        data[0] ^= 1
        path.write_bytes(data)
    assert same(good, fingerprint("org/wide"))


def test_the_cache_keeps_to_its_limit(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path, 10_000)
    for number in range(50):
        cache.put("aabb", number * 1000, bytes([number]) * 500)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*-*")) <= 10_000
    out = bytearray(1000)
    assert RangeCache(tmp_path, 10_000).read("aabb", 49_000, memoryview(out)) == [(49_500, 50_000)]
    assert out == bytes([49]) * 500 + bytes(500)
    assert cache.missing("aabb", 0, 500) == [] or cache.read("aabb", 0, memoryview(bytearray(500))) == [(0, 500)]


def test_what_is_registered_is_not_read_again(hub: Hub, wide: Files) -> None:
    assert run("add", "org/wide").exit_code == 0
    hub.put("copy/wide", {**wide, "README.md": b"another"})
    hub.requests.clear()
    done = run("query", "copy/wide", "--json")
    assert json.loads(done.stdout)["relatives"][0]["relation"] == "identical"
    assert hub.requests["range"] == 0


def test_compare_add_and_revisions(hub: Hub, wide: Files) -> None:
    commit = hub.repos["org/wide"].commit
    assert json.loads(run("compare", "hf://org/wide", local(wide), "--level", "probe", "--json").stdout)["relation"] == "identical"
    added = json.loads(run("add", f"org/wide@{commit}", "--json").stdout)
    assert (added["model"], added["status"], added["level"]) == ("org/wide", "added", "probe")
    done = run("query", "org/wide@nowhere")
    assert done.exit_code == 3
    assert "no such revision" in done.output


def test_what_is_here_wins(hub: Hub) -> None:
    save_model(Path("org") / "wide", tuned(tiny_llama(1), 2))
    fingerprint("org/wide")
    assert not hub.requests


def test_gguf_by_ranges(hub: Hub, tmp_path: Path) -> None:
    place = tmp_path / "g"
    place.mkdir()
    gguf_files.write(place / "model.gguf", gguf_files.converted(wide_llama(3), 4), settings=GGUF)
    data = (place / "model.gguf").read_bytes()
    hub.put("org/gguf", {"model.gguf": data})
    found = fingerprint("org/gguf")
    assert hub.sent < len(data) / 2
    assert same(found, fingerprint("g", "--level", "probe"))


@pytest.mark.parametrize("faults", [[429, 429], [500], [503, 503], ["cut"], ["cut", 500, "cut"]])
def test_what_passes_is_tried_again(hub: Hub, faults: list[int | str], wide: Files) -> None:
    hub.faults += faults
    assert same(fingerprint("org/wide"), fingerprint(local(wide), "--level", "probe"))
    assert not hub.faults


def test_an_address_that_expires_is_found_anew_and_the_store_sees_no_token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.faults += ["", "", lambda: setattr(hub, "signature", "s2")]
    fingerprint("org/wide")
    assert hub.requests["file"] >= 4
    assert not hub.told_tokens


def withdraw(hub: Hub) -> None:
    """The token of the reader expires, and so do the addresses that it was given."""
    hub.signature = "s3"
    hub.repos["org/wide"].broken = 401


def test_a_repository_that_changes_while_it_is_read(hub: Hub) -> None:
    def change() -> None:
        hub.signature = "s4"
        hub.put("org/wide", files_of(wide_llama(5)))

    hub.faults += ["", "", change]
    told = fingerprint("org/wide", code=3)
    assert "changed while it was read" in str(told)
    assert isinstance(fingerprint("org/wide"), fingerprints.Fingerprint)


def test_other_content_at_the_same_address_is_refused(hub: Hub) -> None:
    hub.faults += ["", "", lambda: hub.repos["org/wide"].files.update(files_of(wide_llama(6)))]
    assert "changed while it was read" in str(fingerprint("org/wide", code=3))


def test_a_token_that_expires(hub: Hub) -> None:
    hub.faults += ["", "", lambda: withdraw(hub)]
    assert "token may have expired" in str(fingerprint("org/wide", code=3))


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (401, "token may have expired"),
        (404, "status 404"),
        (416, "shorter than the Hub announced"),
        ("cut", "do not come whole"),
        ("long", "changed while it was read"),
        ("whole", "sends whole files"),
    ],
)
def test_what_does_not_pass_is_told(hub: Hub, broken: int | str, words: str) -> None:
    hub.repos["org/wide"].broken = broken
    assert words in " ".join(str(fingerprint("org/wide", code=3)).split())


def test_gated_and_missing(hub: Hub) -> None:
    hub.repos["org/wide"].gated = True
    assert "gated" in str(fingerprint("org/wide", code=3))
    told = str(fingerprint("org/none", code=3))
    assert "no such file or folder, and not on the Hub" in told
    hub.faults += [503] * 100
    hub.repos["org/wide"].gated = False
    assert "status 503" in str(fingerprint("org/wide", code=3))


def test_no_network_unless_a_hub_id_asks(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    calls = ("add parent stranger", "query child", "compare parent child", "compare parent stranger --exact", "list", "show parent", "tree")
    for call in (*calls, "decompose child", "doctor", "fingerprint child -o c.modelkin", "export r.out", "query c.modelkin"):
        done = run(*call.split())
        assert done.exit_code == 0, (call, done.output)
    assert run("query", "nothing").exit_code == 3
    assert run("query", "models/none.safetensors").exit_code == 3


def test_a_file_that_its_reader_maps(hub: Hub) -> None:
    data = tflite_files.small()
    hub.put("org/phone", {"model.tflite": data})
    Path("phone").mkdir()
    Path("phone/model.tflite").write_bytes(data)
    assert same(fingerprint("org/phone"), fingerprint("phone", "--level", "probe"))


def test_a_shard_that_another_repository_has_too_is_fetched_once(hub: Hub) -> None:
    tensors = wide_llama(7)
    names = sorted(tensors)
    shards = [safetensors.numpy.save({name: tensors[name] for name in names[part::2]}) for part in range(2)]
    files = {f"model-0000{part + 1}-of-00002.safetensors": shard for part, shard in enumerate(shards)}
    hub.put("org/first", files)
    fingerprint("org/first")
    sent = hub.sent
    changed = safetensors.numpy.save({name: tensors[name] + 1 for name in names[1::2]})
    hub.put("org/second", {**files, "model-00002-of-00002.safetensors": changed})
    fingerprint("org/second")
    assert hub.sent - sent < sent * 0.7


def test_sync_reads_by_ranges_and_tells_how_much(hub: Hub, wide: Files) -> None:
    wanted = ("sync", "org/wide", "--level", "probe", "--rate", "1000", "--json")
    told = json.loads(run(*wanted, "--dry-run").stdout)
    assert told["bytes"] < len(wide["model.safetensors"]) / 3
    hub.sent = 0
    done = json.loads(run(*wanted).stdout)
    assert done["status"] == "added"
    assert done["bytes"] == told["bytes"]
    assert told["bytes"] <= hub.sent < told["bytes"] + 10_000  # the description of the repository comes beside them


def test_a_model_larger_than_the_cache_is_streamed_past_it(hub: Hub, wide: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELKIN_CACHE_BYTES", "2000000")
    monkeypatch.setattr("modelkin_indexer.hub.remote_files.BLOCK", {"probe": 1 << 16, "full": 1 << 20})
    monkeypatch.setattr("modelkin.sources.hub_reading.SCRATCH", 3 << 20)
    here = fingerprint(local(wide))
    found = fingerprint("org/wide", "--level", "full")
    assert isinstance(found, fingerprints.Fingerprint)
    assert isinstance(here, fingerprints.Fingerprint)
    assert np.array_equal(found.matrices.digest, here.matrices.digest)
    assert not [path for path in Path("cache").rglob("*-*") if path.is_file()]
    fingerprint("org/wide")
    assert sum(path.stat().st_size for path in Path("cache").rglob("*-*") if path.is_file()) <= 2_000_000


@pytest.mark.parametrize("limit", ["0", "1000"])
def test_a_cache_that_holds_nothing_does_no_harm(hub: Hub, wide: Files, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setenv("MODELKIN_CACHE_BYTES", limit)
    assert same(fingerprint("org/wide"), fingerprint(local(wide), "--level", "probe"))


def test_models_of_the_hub_are_read_there_again_under_another_key(hub: Hub) -> None:
    """At the commit that they were read from, and only where that was asked for."""
    modelkin.key("new", "our.key")
    modelkin.add("org/wide", registry="r.db", level="probe")
    (told,) = modelkin.refresh("private.db", "our.key", registry="r.db").results
    assert (told.status, told.reason) == ("left", "it is on the Hub: add --hub")
    (read,) = modelkin.refresh("private.db", "our.key", registry="r.db", hub=True).results
    was = dict(hub.repos["org/wide"].files)
    hub.put("org/wide", files_of(wide_llama(2)))
    (there,) = modelkin.refresh("private.db", "our.key", registry="r.db", hub=True).results
    (gone,) = modelkin.refresh("another.db", "our.key", registry="r.db", hub=True).results
    assert (read.status, there.status, gone.status) == ("renewed", "there", "left")
    assert "no such revision" in str(gone.reason)
    Path("copy").mkdir()
    for name, data in was.items():
        Path("copy", name).write_bytes(data)
    answer = modelkin.query("copy", registry="private.db", key_file="our.key", level="probe")
    assert ([one.model for one in answer.relatives], answer.verdict) == (["org/wide"], "related"), answer.explanation
