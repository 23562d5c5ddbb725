"""Flax's msgpack, written byte by byte (benchmarks/formats/containers_reference.py holds files of Flax itself)."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import modelkin
from benchmarks.hostile.written import flax_bytes, packed
from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.opening import open_source
from reading import read

RNG = np.random.default_rng(6)


def floats(*shape: int) -> Any:
    return RNG.standard_normal(shape, np.float32)


def write(path: Path, value: Any) -> Path:
    path.write_bytes(packed(value))
    return path


def test_kernels_come_as_pytorch_lays_them_out(tmp_path: Path) -> None:
    dense, conv, key, out, table = floats(8, 12), floats(3, 3, 4, 6), floats(8, 2, 3), floats(2, 3, 8), floats(20, 8)
    params = {"layers_1": {"up": {"kernel": dense, "bias": floats(12)}, "attn": {"key": {"kernel": key}, "out": {"kernel": out}}}}
    params |= {"conv": {"kernel": conv}, "embed": {"embedding": table}, "norm": {"scale": floats(8)}}
    found = read(write(tmp_path / "flax_model.msgpack", {"params": params, "batch_stats": {"bn": {"mean": floats(6)}}}))
    assert np.array_equal(found["layers.1.up.weight"], dense.T)
    assert np.array_equal(found["layers.1.attn.key.weight"], key.reshape(8, 6).T)
    assert np.array_equal(found["layers.1.attn.out.weight"], out.reshape(6, 8).T)
    assert np.array_equal(found["conv.weight"], conv.transpose(3, 2, 0, 1))
    assert np.array_equal(found["embed.weight"], table)
    assert set(found) > {"norm.weight", "bn.running_mean"}


def test_kernels_that_are_stored_outputs_first(tmp_path: Path) -> None:
    wide, square = floats(24, 8), floats(8, 8)
    tree = {"c_attn": {"kernel": wide, "bias": floats(24)}, "c_proj": {"kernel": square, "bias": floats(8)}}
    found = read(write(tmp_path / "m.msgpack", tree))
    assert np.array_equal(found["c_attn.weight"], wide)
    assert np.array_equal(found["c_proj.weight"], square)


def test_a_training_state_is_its_parameters(tmp_path: Path) -> None:
    state = {
        "step": 7,
        "params": {"params": {"fc": {"kernel": floats(8, 4)}}},
        "opt_state": {"0": {"mu": {"fc": {"kernel": floats(8, 4)}}}},
    }
    assert list(read(write(tmp_path / "m.msgpack", state))) == ["fc.weight"]


def test_arrays_in_chunks_and_shards(tmp_path: Path) -> None:
    table = floats(30, 7).astype(ml_dtypes.bfloat16)
    flat = table.reshape(-1)
    chunks = {"__msgpack_chunked_array__": True, "shape": {"0": 30, "1": 7}, "chunks": {"0": flat[:100], "1": flat[100:]}}
    write(tmp_path / "flax_model-00001-of-00002.msgpack", {"embed": {"embedding": chunks}})
    write(tmp_path / "flax_model-00002-of-00002.msgpack", {"fc": {"kernel": floats(8, 4)}})
    names = {"embed/embedding": "flax_model-00001-of-00002.msgpack", "fc/kernel": "flax_model-00002-of-00002.msgpack"}
    (tmp_path / "flax_model.msgpack.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    found = read(tmp_path)
    assert np.array_equal(found["embed.weight"], table.astype(np.float32))
    assert set(found) == {"embed.weight", "fc.weight"}


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.msgpack"
    path.write_bytes(flax_bytes({f"l{n}.weight": floats(300, 200) for n in range(8)}))
    with closing(open_source(path)) as source:
        assert source.bytes_read < 32_000
        before = source.bytes_read
        source.read("l3.weight", 400, 1200)
        assert source.bytes_read == before + 800


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat, match="no arrays of Flax"):
        open_source(write(tmp_path / "a.msgpack", {"words": ["a", "b"]}))
    with pytest.raises(DamagedFile, match="chunks that do not fit"):
        open_source(write(tmp_path / "b.msgpack", {"a": {"__msgpack_chunked_array__": True, "shape": {"0": 4}, "chunks": {}}}))


def test_a_module_called_key_is_no_counter(tmp_path: Path) -> None:
    tree = {name: {"kernel": floats(8, 8), "bias": floats(8)} for name in ("query", "key", "value")}
    assert {"query.weight", "key.weight", "value.weight"} <= read(write(tmp_path / "m.msgpack", tree)).keys()
    state = {"params": tree, "step": 3, "rng": floats(2), "opt_state": {"mu": {"kernel": floats(8, 8)}}}
    assert read(write(tmp_path / "s.msgpack", state)).keys() == read(tmp_path / "m.msgpack").keys()


def test_msgpack_of_other_libraries_is_told_as_that(tmp_path: Path) -> None:
    """As spaCy writes: lists of maps whose names are numbers and long bytes."""
    name = b"\xc6" + (70_000).to_bytes(4) + bytes(70_000)
    (tmp_path / "model").write_bytes(b"\x81\xa5nodes\x91\x81" + name + b"\x01")
    with pytest.raises(UnsupportedFormat, match="not as Flax writes it"):
        open_source(tmp_path / "model")


def cell(gates: str, biased: str, inputs: int = 12, hidden: int = 8) -> dict[str, Any]:
    """A recurrent cell as flax.linen keeps it: a module for each gate."""
    modules = {f"{side}{gate}": {"kernel": floats(size, hidden)} for side, size in (("i", inputs), ("h", hidden)) for gate in gates}
    return {name: {**module, "bias": floats(hidden)} if name in biased.split() else module for name, module in modules.items()}


@pytest.mark.parametrize("gates", ["rzn", "ifgo"])
def test_gates_of_recurrent_cells_are_one_matrix_in_pytorchs_order(tmp_path: Path, gates: str) -> None:
    """Both orders held against torch.nn's cells, whose outputs are the same (flax 0.12.8)."""
    tree = cell(gates, "ir iz in hn" if gates == "rzn" else "hi hf hg ho")
    found = read(write(tmp_path / "m.msgpack", {"params": {"rnn": {"Cell_0": tree}, "out": {"kernel": floats(8, 3)}}}))
    for side in "ih":
        whole = np.concatenate([tree[side + gate]["kernel"].T for gate in gates])
        assert np.array_equal(found[f"rnn.Cell_0.weight_{side}h_l0"], whole)
    if gates == "rzn":
        assert np.array_equal(found["rnn.Cell_0.bias_ih_l0"], np.concatenate([tree[f"i{gate}"]["bias"] for gate in gates]))
        assert np.array_equal(found["rnn.Cell_0.bias_hh_l0"], np.concatenate([np.zeros(16, np.float32), tree["hn"]["bias"]]))
    else:
        assert np.array_equal(found["rnn.Cell_0.bias_hh_l0"], np.concatenate([tree[f"h{gate}"]["bias"] for gate in gates]))
    assert len(found) == (5 if gates == "rzn" else 4)


def test_a_recurrent_layer_and_its_copy_in_pytorch_are_one(tmp_path: Path) -> None:
    """PyTorch keeps a bias for each gate that sees the state; Flax's GRU for the last one only, since the others add to the inputs'."""
    for gates, biased in (("rzn", "ir iz in hn"), ("ifgo", "hi hf hg ho")):
        tree: dict[str, Any] = {"embed": {"embedding": floats(300, 48)}}
        state = {"embed.weight": tree["embed"]["embedding"]}
        for layer in range(3):
            tree[f"cell_{layer}"] = one = cell(gates, biased, 48, 48)
            for side in "ih":
                parts = [one[side + gate] for gate in gates]
                state[f"rnn_{layer}.weight_{side}h_l0"] = np.hstack([part["kernel"] for part in parts]).T.copy("C")
                state[f"rnn_{layer}.bias_{side}h_l0"] = np.concatenate([part.get("bias", np.zeros(48, np.float32)) for part in parts])
        flax, copy = write(tmp_path / f"{gates}.msgpack", {"params": tree}), tmp_path / f"{gates}.safetensors"
        save_file(state, copy)
        assert modelkin.compare(flax, copy, level="full").relation == "identical"


def test_modules_that_are_no_whole_cell_stay_apart(tmp_path: Path) -> None:
    lacking = cell("rzn", "")
    del lacking["hz"]
    uneven = cell("ifgo", "")
    uneven["hf"] = {"kernel": floats(9, 8)}
    found = read(write(tmp_path / "m.msgpack", {"a": lacking, "b": uneven}))
    assert found.keys() == {f"a.{name}.weight" for name in lacking} | {f"b.{name}.weight" for name in uneven}
