"""PyTorch checkpoints of every form, held against what PyTorch itself reads; and pickles that would run something."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkin_cli.main import cli
from modelkin_indexer.errors import DamagedFile, SourceError, UnsupportedFormat
from modelkin_indexer.opening import open_source
from modelkin_indexer.sources.pytorch.inert_pickle import read_pickle
from modelkin_indexer.sources.pytorch.values import is_allowed

Tensors = dict[str, torch.Tensor]
Save = Callable[[Any, Path], Path]


def save_zip(value: Any, path: Path) -> Path:
    torch.save(value, path)
    return path


def save_legacy(value: Any, path: Path) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=False)
    return path


@pytest.fixture(params=[save_zip, save_legacy], ids=["zip", "legacy"])
def save(request: pytest.FixtureRequest) -> Save:
    found: Save = request.param
    return found


def tensors() -> Tensors:
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(6, 10, generator=generator)
    return {
        "turned": base.t(),
        "part": base[1:4, 2:7],
        "whole": base,
        "four axes": torch.randn(2, 3, 4, 5, generator=generator).permute(3, 1, 0, 2),
        "every second": torch.arange(9.0)[1::2],
        "bfloat16": torch.randn(5, generator=generator).bfloat16(),
        "half": torch.nn.Parameter(torch.randn(3, 4, generator=generator).half()),
        "double": torch.randn(3, generator=generator).double(),
        "float8": torch.randn(4, generator=generator).to(torch.float8_e4m3fn),
        "counts": torch.arange(6),
        "truth": torch.ones(2, dtype=torch.bool),
        "number": torch.tensor(3),
    }


def agrees(path: Path, wanted: Tensors) -> Any:
    """The source, after every tensor of it was found equal to those wanted."""
    source = open_source(path)
    assert sorted(source.tensors) == sorted(wanted)
    for name, tensor in wanted.items():
        info = source.tensors[name]
        assert info.shape == tuple(tensor.shape)
        stored = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
        assert np.array_equal(source.read(name, 0, info.nbytes), stored)
        assert np.array_equal(source.read(name, info.nbytes // 3, info.nbytes), stored[info.nbytes // 3 :])
    return source


def module() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.BatchNorm1d(4), torch.nn.Sequential(torch.nn.Linear(4, 2, bias=False)))


def test_a_state_dict(save: Save, tmp_path: Path) -> None:
    source = agrees(save(tensors(), tmp_path / "tiny.pt"), tensors())
    assert (source.name, source.quantization, source.notes) == ("tiny", "", ())


@pytest.mark.parametrize("words", [("model",), ("state_dict",), ("module",), ("model", "state_dict"), ("params",)])
def test_a_training_checkpoint(words: tuple[str, ...], save: Save, tmp_path: Path) -> None:
    net = module()
    optimizer = {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(4, 8)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    value: Any = net.state_dict()
    for word in words:
        value = {
            word: value,
            "optimizer": optimizer,
            "epoch": 3,
            "options": argparse.Namespace(rate=0.1),
            "loss": np.float64(1),
        }
    source = agrees(save(value, tmp_path / "a.ckpt"), net.state_dict())
    assert "'optimizer'" in source.notes[0]


def test_parts_under_names_of_their_own(save: Save, tmp_path: Path) -> None:
    parts = {"encoder": {"a": torch.ones(2)}, "decoder": {"b": [torch.ones(3), torch.ones(4)]}, "ema": {"a": torch.ones(5)}}
    source = agrees(
        save(parts, tmp_path / "a.pt"), {"encoder.a": torch.ones(2), "decoder.b.0": torch.ones(3), "decoder.b.1": torch.ones(4)}
    )
    assert "'ema'" in source.notes[0]


def test_a_whole_module(save: Save, tmp_path: Path) -> None:
    net = module()
    agrees(save(net, tmp_path / "a.pt"), net.state_dict())


def test_a_torchscript_archive(tmp_path: Path) -> None:
    net = module().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(net), tmp_path / "a.jit")
    agrees(tmp_path / "a.jit", net.state_dict())


def test_shards(tmp_path: Path) -> None:
    names = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    for name, key in zip(names, "ab", strict=True):
        save_zip({key: torch.ones(3)}, tmp_path / name)
    agrees(tmp_path, {"a": torch.ones(3), "b": torch.ones(3)})
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": dict(zip("ab", names, strict=True))}))
    source = agrees(tmp_path, {"a": torch.ones(3), "b": torch.ones(3)})
    assert len(source.files) == 2
    (tmp_path / names[1]).unlink()
    with pytest.raises(SourceError, match=names[1]):
        open_source(tmp_path)


def test_training_leftovers_and_other_forms(tmp_path: Path) -> None:
    save_zip({"a": torch.ones(3)}, tmp_path / "pytorch_model.bin")
    save_zip({"state": {}}, tmp_path / "training_args.bin")
    save_zip({"state": torch.ones(4)}, tmp_path / "optimizer.pt")
    assert agrees(tmp_path, {"a": torch.ones(3)}).notes == ()
    np.savez(tmp_path / "model.npz", a=np.ones(3))
    assert "model.npz" in agrees(tmp_path, {"a": torch.ones(3)}).notes[0]


def test_empty_tensors_are_left_out(tmp_path: Path) -> None:
    source = agrees(save_zip({"a": torch.ones(3), "b": torch.ones(0, 3)}, tmp_path / "a.pt"), {"a": torch.ones(3)})
    assert "'b'" in source.notes[0]


def test_complex_numbers_are_pairs(save: Save, tmp_path: Path) -> None:
    numbers = torch.tensor([[1 + 2j, 3 - 4j], [0.5j, 2]], dtype=torch.complex64)
    source = open_source(save({"a": numbers, "b": numbers.T, "c": numbers.to(torch.complex128)}, tmp_path / "a.pt"))
    pairs = torch.view_as_real(numbers)
    assert [(info.dtype, info.shape) for info in source.tensors.values()] == [("F32", (2, 2, 2)), ("F32", (2, 2, 2)), ("F64", (2, 2, 2))]
    assert source.read("a", 0, 32).view(np.float32).tolist() == pairs.flatten().tolist()
    assert source.read("b", 0, 32).view(np.float32).tolist() == pairs.transpose(0, 1).flatten().tolist()


def test_conjugates_and_negatives_that_are_only_marked(save: Save, tmp_path: Path) -> None:
    numbers = torch.randn(4, 3, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    one, two = numbers.clone(), numbers.clone()
    marked = {"a": numbers.conj(), "b": one.conj().imag, "c": numbers.conj().T, "d": one.conj().real, "e": two.T.conj().imag[1:]}
    assert [tensor.is_conj() or tensor.is_neg() for tensor in marked.values()] == [True, True, True, False, True]
    wanted = {name: tensor.resolve_conj().resolve_neg() for name, tensor in marked.items()}
    agrees(save(marked, tmp_path / "a.pt"), {k: torch.view_as_real(t) if t.is_complex() else t for k, t in wanted.items()})


def test_the_ending_of_old_checkpoints(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": {"a": torch.ones(3)}}, tmp_path / "model_best.pth.tar")
    for place in (tmp_path, tmp_path / "model_best.pth.tar"):
        assert list(open_source(place).tensors) == ["a"]


def test_one_tensor_in_two_files(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3), "b": torch.ones(2)}, tmp_path / "pytorch_model-00001-of-00002.bin")
    torch.save({"a": torch.ones(3), "c": torch.ones(2)}, tmp_path / "pytorch_model-00002-of-00002.bin")
    source = open_source(tmp_path)
    assert list(source.tensors) == ["a", "b", "c"]
    assert "equal bytes" in source.notes[0]
    torch.save({"a": torch.zeros(3), "c": torch.ones(2)}, tmp_path / "pytorch_model-00002-of-00002.bin")
    with pytest.raises(DamagedFile, match=r"'a': is also in pytorch_model-00001-of-00002.bin, with other bytes"):
        open_source(tmp_path)


def sliced(folder: Path, count: int, width: int = 8, inner: int = 12, tokens: int = 20) -> dict[str, torch.Tensor]:
    """A model cut as Llama's trainers cut it, in as many files; the whole."""
    whole = {
        "tok_embeddings.weight": torch.randn(tokens, width),
        "norm.weight": torch.randn(width),
        "output.weight": torch.randn(tokens, width),
    }
    for layer in range(2):
        front = f"layers.{layer}."
        whole |= {f"{front}attention.{name}.weight": torch.randn(width, width) for name in ("wq", "wk", "wv", "wo")}
        whole |= {f"{front}feed_forward.{name}.weight": torch.randn(inner, width) for name in ("w1", "w3")}
        whole |= {f"{front}feed_forward.w2.weight": torch.randn(width, inner), f"{front}attention_norm.weight": torch.randn(width)}
    for number in range(count):
        parts = {
            name: tensor
            if tensor.ndim == 1
            else tensor.chunk(count, 1 if name.split(".")[-2] in ("wo", "w2", "tok_embeddings") else 0)[number]
            for name, tensor in whole.items()
        }
        torch.save({name: part.clone() for name, part in parts.items()}, folder / f"consolidated.{number:02d}.pth")
    return whole


@pytest.mark.parametrize(("count", "inner"), [(2, 12), (4, 32), (2, 16)])
def test_slices_for_several_devices_are_one_model(count: int, inner: int, tmp_path: Path) -> None:
    whole = sliced(tmp_path, count, inner=inner)
    source = open_source(tmp_path)
    assert source.notes[0] == f"{count} files hold a slice of each matrix; they are read together."
    for name, tensor in whole.items():
        info = source.tensors[name]
        assert info.shape == tuple(tensor.shape), name
        held = source.read(name, 0, info.nbytes).view(np.float32)
        assert np.array_equal(held, tensor.flatten().numpy()), name
        assert np.array_equal(source.read(name, 4, info.nbytes - 4).view(np.float32), held[1:-1])
    assert source.bytes_read >= sum(info.nbytes for info in source.tensors.values())


def test_slices_that_do_not_belong_together(tmp_path: Path) -> None:
    sliced(tmp_path, 2)
    torch.save({"x": torch.ones(3)}, tmp_path / "consolidated.01.pth")
    with pytest.raises(DamagedFile, match="the same tensors as the first slice"):
        open_source(tmp_path)


@pytest.mark.parametrize("kind", ["sparse", "quantised"])
def test_tensors_of_other_kinds(kind: str, save: Save, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        odd = {
            "sparse": lambda: torch.eye(3).to_sparse(),
            "quantised": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        }[kind]()
        path = save({"odd": odd, "a": torch.ones(3)}, tmp_path / "a.pt")
    with pytest.raises(UnsupportedFormat, match=f"'odd'.*(?i:{kind})"):
        open_source(path)


class Shell:
    """What a hostile pickle runs when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch boom",)


BOMBS: dict[str, Any] = {
    "beside a tensor": {"a": torch.ones(3), "b": Shell()},
    "in a list": {"a": torch.ones(3), "b": [[Shell()]]},
    "as a key's value": {"model": {"a": torch.ones(3)}, "optimizer": Shell()},
    "alone": Shell(),
}


@pytest.mark.parametrize("case", BOMBS)
def test_a_bomb_runs_nothing(case: str, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = save(BOMBS[case], tmp_path / "a.pt")
    with pytest.raises(UnsupportedFormat, match=r"a\.pt: would call '(posix|nt)\.system'"):
        open_source(path)
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_plain_pickle_is_refused(protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.bin").write_bytes(pickle.dumps(Shell(), protocol))
    with pytest.raises(UnsupportedFormat, match=r"a\.bin"):
        open_source(tmp_path / "a.bin")
    assert not (tmp_path / "boom").exists()


def test_the_command_refuses_a_bomb_and_stores_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_zip(BOMBS["beside a tensor"], tmp_path / "a.pt")
    registry = str(tmp_path / "registry.db")
    assert CliRunner().invoke(cli, ["--registry", registry, "add", str(tmp_path / "a.pt")]).exit_code == 3
    assert not (tmp_path / "boom").exists()
    listed = CliRunner().invoke(cli, ["--registry", registry, "list", "--json"])
    assert json.loads(listed.stdout)["models"] == []


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_any_bytes_as_a_pickle(data: bytes) -> None:
    """Nothing but an error of ours, or a value."""
    with contextlib.suppress(SourceError):
        read_pickle(io.BytesIO(b"\x80\x02" + data + b"."), Path("x"), is_allowed)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_anywhere(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A flipped byte or a cut leads to an error of ours or to a file that still reads."""
    folder = tmp_path_factory.mktemp("damaged")
    save = save_zip if data.draw(st.booleans()) else save_legacy
    whole = save({"a": torch.ones(4, 3), "b": torch.ones(5)}, folder / "a.pt").read_bytes()
    at, rest = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.booleans())
    (folder / "a.pt").write_bytes(whole[:at] + (bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :] if rest else b""))
    with contextlib.suppress(SourceError), contextlib.closing(open_source(folder / "a.pt")) as source:
        for name, info in source.tensors.items():
            source.read(name, 0, info.nbytes)


def pickled(shape: tuple[int, ...], strides: tuple[int, ...], offset: int, count: int = 4) -> bytes:
    """A data.pkl with one tensor laid over a storage as told."""

    class Storage:
        pass

    class Tensor:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch._utils._rebuild_tensor_v2, (Storage(), offset, shape, strides, False, {})

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", count) if isinstance(value, Storage) else None

    stream = io.BytesIO()
    Pickler(stream, 2).dump({"a": Tensor()})
    return stream.getvalue()


LIES = {
    "past the storage": ((5,), (1,), 0),
    "offset past the storage": ((1,), (1,), 4),
    "huge offset": ((1,), (1,), 2**61),
    "huge stride": ((2, 2), (2**61, 1), 0),
    "more numbers than there are": ((2**20, 2**20), (0, 0), 0),
    "negative stride": ((2,), (-1,), 1),
    "negative size": ((-2,), (1,), 0),
    "shape and strides of other lengths": ((2, 2), (1,), 0),
    "text for a size": (("2",), (1,), 0),
}


@pytest.mark.parametrize("case", LIES)
def test_tensors_that_leave_their_storage(case: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", pickled(*LIES[case]))  # type: ignore[arg-type]
        archive.writestr("a/data/0", bytes(16))
    with pytest.raises(DamagedFile, match=r"a\.pt: tensor 'a'"):
        open_source(tmp_path / "a.pt")


def archive_of(path: Path, compression: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(f"a/{name.replace('__', '/')}", data)
    return path


def test_archives_that_are_no_checkpoint(tmp_path: Path) -> None:
    good = pickled((4,), (1,), 0)
    assert list(open_source(archive_of(tmp_path / "a.pt", **{"data.pkl": good, "data__0": bytes(16)})).tensors) == ["a"]
    with pytest.raises(DamagedFile, match="storage '0'"):
        open_source(archive_of(tmp_path / "b.pt", **{"data.pkl": good}))
    with pytest.raises(UnsupportedFormat, match="0 pickles"):
        open_source(archive_of(tmp_path / "c.pt", **{"data__0": bytes(16)}))
    with pytest.raises(UnsupportedFormat, match="compressed"):
        open_source(archive_of(tmp_path / "d.pt", zipfile.ZIP_DEFLATED, **{"data.pkl": good, "data__0": bytes(16)}))
    with pytest.raises(UnsupportedFormat, match="big-endian"):
        open_source(archive_of(tmp_path / "e.pt", **{"data.pkl": good, "data__0": bytes(16), "byteorder": b"big"}))
    (tmp_path / "f.pt").write_bytes(b"plain text, no weights")
    with pytest.raises(UnsupportedFormat, match="no PyTorch checkpoint"):
        open_source(tmp_path / "f.pt")
