"""Containers and schemes of other packages: found by entry points, asked only where nothing of ours will do, never in our way."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import other_package
from calls import run
from modelkin.sources.naming import hub_id
from modelkin_indexer import plug_ins
from modelkin_indexer.errors import DamagedFile, SourceError, UnsupportedFormat
from modelkin_indexer.opening import open_source
from modelkin_indexer.quantised import schemes
from modelkin_indexer.quantised.parts import Undecoded
from modelkin_indexer.sources import register
from modelkin_indexer.sources.stored import values
from quantised_models import NAME, gptq
from tiny_models import save_model, tiny_llama, tuned

Install = Any


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts the other package where this process finds it."""

    def installed(more: str = "") -> None:
        monkeypatch.syspath_prepend(str(other_package.install(tmp_path / "site", more)))
        plug_ins.loaded.cache_clear()

    yield installed
    plug_ins.loaded.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "tinybox"]:
        del sys.modules[name]


def read(path: Path, name: str) -> Any:
    with closing(open_source(path)) as source:
        info = source.tensors[name]
        return values.decode(info.dtype, source.read(name, 0, info.nbytes)).reshape(info.shape)


def test_without_the_package_its_files_are_refused(tmp_path: Path) -> None:
    box = other_package.write_box(tmp_path / "model.tbx", tiny_llama(1))
    for path in (box, tmp_path):
        with pytest.raises(SourceError, match=r"no kind that is known|no weights"):
            open_source(path)
    assert ".tbx" not in register.suffixes()


def test_its_container_is_read_like_ours(models: Path, install: Install) -> None:
    install()
    parent = tiny_llama(1)
    other_package.write_box(models / "boxed" / "model.tbx", tuned(parent, 3))
    other_package.write_box(models / "boxed" / "plain-name", parent)
    name = "model.layers.1.mlp.up_proj.weight"
    assert np.array_equal(read(models / "boxed", name), tuned(parent, 3)[name])
    assert np.array_equal(read(models / "boxed" / "plain-name", name), parent[name])  # by its first bytes
    assert run("add", "parent").exit_code == 0
    answer = json.loads(run("query", "boxed", "--json").stdout)
    assert answer["relatives"][0]["model"] == "parent"
    assert hub_id("nets/missing.tbx") is None
    assert ".tbx" in register.weights_suffixes()


def test_ours_come_first_and_the_others_are_not_even_imported(models: Path, install: Install) -> None:
    install(other_package.GREEDY)
    stored = tiny_llama(1)["model.norm.weight"]
    assert np.array_equal(read(models / "parent", "model.norm.weight"), stored)
    (models / "parent" / "model.safetensors").rename(models / "no-suffix")
    assert np.array_equal(read(models / "no-suffix", "model.norm.weight"), stored)
    assert "tinybox.reader" not in sys.modules
    other_package.write_box(models / "child" / "model.tbx", tiny_llama(2))  # beside a container of ours it is no choice
    assert np.array_equal(read(models / "child", "model.norm.weight"), tuned(tiny_llama(1), 3)["model.norm.weight"])


def test_a_suffix_that_we_only_know_can_be_theirs(tmp_path: Path, install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    found = register.others()[0]
    monkeypatch.setattr(register, "others", lambda: (register.Container("Pickle", found.leaf, (".pkl",), lambda _: False),))
    box = other_package.write_box(tmp_path / "model.pkl", tiny_llama(1))
    assert read(box, "model.norm.weight").shape == tiny_llama(1)["model.norm.weight"].shape


def test_what_is_wrong_with_them_is_told_and_hurts_nobody(models: Path, install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install(other_package.BROKEN)
    with caplog.at_level(logging.WARNING, "modelkin"):
        box = other_package.write_box(models / "model.tbx", tiny_llama(1))
        assert read(box, "model.norm.weight").size
    assert "tinybox.nothing:container" in caplog.text
    box.write_bytes(b"TINYBOX1" + (10**9).to_bytes(8, "little"))
    with pytest.raises(DamagedFile, match="ends early"):
        open_source(box)
    box.write_bytes(b"TINYBOX1explodes")
    with pytest.raises(UnsupportedFormat, match="tinybox, a package of others"):
        open_source(box)
    assert run("query", "model.tbx", registry=None).exit_code == 3


# schemes


def folder(place: Path, tensors: dict[str, Any]) -> Path:
    place.mkdir()
    save_file(tensors, place / "model.safetensors")
    return place


def test_its_scheme_decodes_what_ours_leave_packed(tmp_path: Path, install: Install) -> None:
    weight = np.random.default_rng(1).standard_normal((16, 32)).astype(np.float32) * 0.3
    stored = {f"{NAME}.{last}": tensor for last, tensor in other_package.coded(weight).items()}
    path = folder(tmp_path / "coded", stored)
    with closing(open_source(path)) as source:
        assert f"{NAME}.weight" not in source.tensors
    install()
    assert np.abs(read(path, f"{NAME}.weight") - weight).max() <= 0.0051
    with closing(open_source(path)) as source:
        assert source.quantization == "tinybox codes"


def test_its_scheme_is_not_asked_where_ours_take_all_and_never_sees_what_they_took(tmp_path: Path, install: Install) -> None:
    install()
    gptq(4).write(tmp_path / "ours")
    read(tmp_path / "ours", f"{NAME}.weight")
    save_model(tmp_path / "plain", tiny_llama(1))
    read(tmp_path / "plain", "model.norm.weight")
    assert "tinybox.scheme" not in sys.modules
    layer = gptq(4)
    more = {f"other.{last}": tensor for last, tensor in other_package.coded(np.ones((4, 8))).items()}
    layer.write(tmp_path / "both")
    save_file({**layer.named(), **more}, tmp_path / "both" / "model.safetensors")
    with closing(open_source(tmp_path / "both")) as source:
        assert {f"{NAME}.weight", "other.weight"} <= set(source.tensors)
    assert not [name for name in sys.modules["tinybox.scheme"].seen if name.startswith(NAME)]


def test_what_we_know_but_do_not_decode_is_left_to_them(tmp_path: Path, install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    def ours(parts: Any) -> Iterator[Undecoded]:
        uses = tuple(name for name in parts.tensors if "tb_" in name)
        if uses:
            yield Undecoded("codes of the tiny box", uses)

    monkeypatch.setattr(schemes, "SCHEMES", (ours,))
    stored = {f"{NAME}.{last}": tensor for last, tensor in other_package.coded(np.ones((4, 8))).items()}
    path = folder(tmp_path / "coded", {**stored, "model.norm.weight": np.ones(8, np.float32)})
    with closing(open_source(path)) as source:
        assert [what for what, _ in source.unread] == ["codes of the tiny box"]
    install()
    with closing(open_source(path)) as source:
        assert source.unread == ()
        assert f"{NAME}.weight" in source.tensors
