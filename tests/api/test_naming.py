"""What the name of a source means, and that no name leaves this machine by mistake."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from calls import run
from hub_server import Hub, serving
from modelkin.errors import Offline, SourceNotFound
from modelkin.sources.naming import existing, hub_id
from modelkin.sources.network import OFFLINE, hub_client, is_offline
from modelkin_indexer.hub.errors import HubError
from modelkin_indexer.sources.register import CONTAINERS, OTHER_SUFFIXES, suffixes
from tiny_models import save_model, tiny_llama

ENDINGS = sorted({*suffixes(), ".modelkin", ".SAFETENSORS", ".safetensors.index.json"})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "there").mkdir(parents=True)
    return tmp_path


def test_every_known_suffix_is_in_the_one_list() -> None:
    assert {suffix for container in CONTAINERS for suffix in container.suffixes} <= set(suffixes())
    assert set(OTHER_SUFFIXES) <= set(suffixes())
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in suffixes())


@pytest.mark.parametrize("suffix", ENDINGS)
def test_what_is_named_like_a_file_is_no_hub_id(here: Path, suffix: str) -> None:
    assert hub_id(f"nets/missing{suffix}") is None
    assert hub_id(f"nets{suffix}/missing") is None
    assert hub_id(f"nets/missing{suffix}@main") is None
    assert hub_id(f"hf://nets/missing{suffix}") == f"nets/missing{suffix}"


@pytest.mark.parametrize("name", ["models/there", "models/ther", "models/other@main", "model/there", "Models/there", "modles/secret"])
def test_what_is_here_in_part_is_no_hub_id(here: Path, name: str) -> None:
    assert hub_id(name) is None
    assert hub_id(f"hf://{name}") == name


@pytest.mark.parametrize("name", ["org/name", "org/name@main", "Qwen/Qwen2.5-7B", "ggml-org/llama.cpp", "org/name@refs/pr/1"])
def test_what_nothing_here_resembles_is_a_hub_id(here: Path, name: str) -> None:
    assert hub_id(name) == name


def test_a_dangling_link_is_here(here: Path) -> None:
    Path("org").symlink_to("nowhere")
    assert hub_id("org/name") is None


@pytest.mark.parametrize("name", ["name", "a/b/c", "./a/b", "/a/b", "~/b", "a/", "-a/b", "hf://a", "a/b c", ""])
def test_other_names_are_paths(here: Path, name: str) -> None:
    assert hub_id(name) is None


@pytest.mark.parametrize(
    ("name", "from_hub", "words", "never"),
    [
        ("models/ther", True, ("'models/there'", "hf://models/ther"), "download"),
        ("models/ther", False, ("'models/there'", "hf download models/ther"), "hf://"),
        ("modles/there", True, ("'models/there'",), "download"),
        ("models/x.gguf", True, ("Give a file",), "Hub"),
        ("nothing", True, ("Give a file",), "Hub"),
    ],
)
def test_the_remedy_is_true_of_the_verb(here: Path, name: str, from_hub: bool, words: tuple[str, ...], never: str) -> None:
    with pytest.raises(SourceNotFound) as caught:
        existing(name, from_hub=from_hub)
    assert all(word in caught.value.remedy for word in words)
    assert never not in caught.value.remedy


# asking


@pytest.fixture
def hub(models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    import huggingface_hub.constants

    with serving(Hub()) as hub:
        monkeypatch.delenv("MODELKIN_OFFLINE")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        yield hub


READ = (["query", "{}"], ["add", "{}"], ["compare", "child", "{}"], ["decompose", "{}"], ["fingerprint", "{}", "-o", "f.modelkin"])
ASKING = (*READ, ["sync", "{}"], ["push", "{}"], ["pull", "{}"])


@pytest.mark.parametrize("verb", ASKING, ids=lambda verb: verb[0])
def test_every_verb_says_what_it_asks_before_it_asks(hub: Hub, filled: Path, verb: list[str]) -> None:
    said = run(*(word.format("org/none") for word in verb), "--json").stderr
    assert said.startswith(f"Asking {hub.url} for ")
    assert hub.requests


@pytest.mark.parametrize("verb", ASKING, ids=lambda verb: verb[0])
@pytest.mark.parametrize("how", ["option", "MODELKIN_OFFLINE", "HF_HUB_OFFLINE", "group"])
def test_offline_forbids_every_request(hub: Hub, filled: Path, monkeypatch: pytest.MonkeyPatch, verb: list[str], how: str) -> None:
    call = [word.format("org/none") for word in verb]
    if how.isupper():
        monkeypatch.setenv(how, "1")
    done = run(*(["--offline"] if how == "group" else []), *call, *(["--offline"] if how == "option" else []))
    assert done.exit_code == 3
    assert "MODELKIN_OFFLINE" in " ".join(done.stderr.split())
    assert not hub.requests


@pytest.mark.parametrize("verb", READ, ids=lambda verb: verb[0])
@pytest.mark.parametrize("name", ["nets/missing.tflite", "models/ther", "parent/x.jit"])
def test_a_mistyped_path_asks_nobody(hub: Hub, filled: Path, verb: list[str], name: str) -> None:
    save_model(filled / "models" / "there", tiny_llama(1))
    done = run(*(word.format(name) for word in verb))
    assert done.exit_code == 3
    assert "no such file or folder" in " ".join(done.stderr.split())
    assert not hub.requests


@pytest.mark.parametrize("name", OFFLINE)
def test_what_counts_as_offline(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv("MODELKIN_OFFLINE", raising=False)
    for said, meant in (("", False), ("0", False), ("False", False), ("no", False), ("1", True), ("true", True), ("yes", True)):
        monkeypatch.setenv(name, said)
        assert is_offline() is meant
        assert is_offline(True)


def test_a_host_that_is_not_known_is_not_tried_again(monkeypatch: pytest.MonkeyPatch, own_folder: Path) -> None:
    import huggingface_hub.constants

    asked: list[str] = []

    def unknown(host: str, *_: object) -> None:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.delenv("MODELKIN_OFFLINE", raising=False)
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "https://hub.invalid")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(HubError, match="not known here") as caught:
        hub_client("org/name", lambda _: None)
    assert asked == ["hub.invalid"]
    assert caught.value.passing
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    hub_client("org/name", lambda _: None)
    assert asked == ["hub.invalid"]


def test_offline_is_told_before_anything_of_the_network_is_imported(monkeypatch: pytest.MonkeyPatch, own_folder: Path) -> None:
    with pytest.raises(Offline, match="org/name"):
        hub_client("org/name", pytest.fail)
