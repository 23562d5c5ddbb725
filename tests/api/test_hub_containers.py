"""Each container on the Hub: read by ranges, the files that belong to it with it, to the fingerprint that it has here."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import modelkin
from benchmarks.hostile import bundles, checkpoints, written
from benchmarks.hostile.containers import tflite_bytes
from hub_server import Hub, serving

# Matrices that these store [in, out] have a number of each looked-at row in every row, so that all of them is fetched.
WHOLE = ("keras", "keras archive", "flax", "paddle", "paddle program", "orbax", "orbax, a step", "tensorflow", "saved model")
WHOLE += ("litertlm", "executorch")  # files that are mapped
SHARE = 0.45  # of a repository of 12 MB that level probe may fetch: ranges are rounded up to 64 KB, and this model is small


def weights() -> dict[str, Any]:
    rng = np.random.default_rng(4)
    shapes = {"up_proj": (1536, 512), "gate_proj": (1536, 512), "down_proj": (512, 1536)}
    return {f"model.layers.0.mlp.{role}.weight": rng.standard_normal(shape, np.float32) for role, shape in shapes.items()}


def checkpoint() -> bytes:
    stream = io.BytesIO()
    torch.save({name: torch.from_numpy(array) for name, array in weights().items()}, stream)
    return stream.getvalue()


def kernels() -> dict[str, Any]:
    return {f"{name.removesuffix('.weight').replace('.', '/')}/kernel": array.T for name, array in weights().items()}


def orbax() -> dict[str, bytes]:
    return checkpoints.ocdbt_files(checkpoints.zarr_values(checkpoints.flax_named(weights())))


REPOSITORIES = {
    "keras": lambda: {"model.weights.h5": written.keras_bytes(weights())},
    "keras archive": lambda: {"model.keras": written.keras_archive(written.keras_bytes(weights()))},
    "flax": lambda: {"flax_model.msgpack": written.flax_bytes(weights())},
    "paddle": lambda: {"model_state.pdparams": written.paddle_pickle(weights())},
    "paddle program": lambda: {
        "inference.pdiparams": written.paddle_parameters(weights()),
        "inference.json": written.paddle_program(weights()),
    },
    "openvino": lambda: written.openvino_files(weights()),
    "nemo": lambda: {"model.nemo": written.nemo_bytes(checkpoint())},
    "whisper": lambda: {"ggml-tiny.bin": written.whisper_bytes(weights())},
    "orbax": lambda: orbax(),
    "orbax, a step": lambda: {f"7/state/{name}": data for name, data in orbax().items()},
    "tensorflow": lambda: checkpoints.tensorflow_files(kernels()),
    "saved model": lambda: {
        "saved_model.pb": b"\x08\x01",
        **{f"variables/{name}": data for name, data in checkpoints.tensorflow_files(kernels(), "variables").items()},
    },
    "litertlm": lambda: {"model.litertlm": bundles.litertlm_bytes({"prefill_decode": tflite_bytes(weights())})},
    "executorch": lambda: {"model.ptd": bundles.ptd_bytes(weights())},
    "spacy": lambda: written.spacy_files({name.replace(".", "_"): array for name, array in weights().items()}),
    "coreml": lambda: {f"Model.mlpackage/Data/com.apple.CoreML/{name}": data for name, data in written.coreml_files(weights()).items()},
    "distributed": lambda: written.distributed_files(weights()),
}


@pytest.fixture
def hub(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    import huggingface_hub.constants

    with serving(Hub()) as hub:
        monkeypatch.delenv("MODELKIN_OFFLINE")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        yield hub


@pytest.mark.parametrize("name", REPOSITORIES)
def test_it_is_read_by_ranges_to_the_same_fingerprint(name: str, hub: Hub, tmp_path: Path) -> None:
    files = REPOSITORIES[name]()
    hub.put("org/model", files)
    for path, data in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    there = modelkin.read("org/model", level="probe").fingerprint
    here = modelkin.read(tmp_path, level="probe").fingerprint
    assert there.about.unplaced == here.about.unplaced
    assert there.matrices.places == here.matrices.places
    assert len(here.matrices.probe)
    assert np.array_equal(there.matrices.probe, here.matrices.probe)
    assert hub.sent < (1.1 if name in WHOLE else SHARE) * sum(map(len, files.values()))
