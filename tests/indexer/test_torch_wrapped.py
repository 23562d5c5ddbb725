"""Checkpoints of PyTorch whose tensors are of classes of their own, made of others: torchao's."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelkin_indexer.errors import UnsupportedFormat
from modelkin_indexer.opening import open_source
from reading import read


def of_class(kind: str, parts: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> object:
    """What pickles as a tensor of the class `torchao.quantization.KIND` of torchao 0.18: its tensors and settings under their names."""

    class Wrapped:
        def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
            layout = (type(self), torch.float32, (32, 64), (64, 1), 0, torch.strided, torch.device("cpu"), False)
            rebuilt = (torch._utils._rebuild_wrapper_subclass, type(self), layout, parts)  # type: ignore[attr-defined]
            return torch._tensor._rebuild_from_type_v2, rebuilt  # type: ignore[attr-defined]

    Wrapped.__module__, Wrapped.__qualname__, Wrapped.__name__ = "torchao.quantization", kind, kind
    module = types.ModuleType("torchao.quantization")
    setattr(module, kind, Wrapped)
    monkeypatch.setitem(sys.modules, "torchao", types.ModuleType("torchao"))
    monkeypatch.setitem(sys.modules, "torchao.quantization", module)
    return Wrapped()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(("kind", "codes"), [("Float8Tensor", torch.float8_e4m3fn), ("Int8Tensor", torch.int8)])
def test_weights_of_torchao_are_decoded(
    kind: str, codes: torch.dtype, legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(2)
    data = (20 * torch.randn(32, 64, generator=generator)).to(codes)
    scale, plain = torch.rand(32, 1, generator=generator), torch.randn(7, generator=generator)
    weight = of_class(kind, {"qdata": data, "scale": scale, "block_size": [1, 64], "target_dtype": torch.int4}, monkeypatch)
    state = {"layer.weight": weight, "norm.weight": plain}
    torch.save(state, tmp_path / "m.bin", _use_new_zipfile_serialization=not legacy)
    found = read(tmp_path / "m.bin")
    assert found.keys() == {"layer.weight", "norm.weight"}
    np.testing.assert_allclose(found["layer.weight"], (data.float() * scale).numpy(), rtol=1e-6)


def test_a_class_of_torchao_that_is_not_known_is_refused_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = of_class("OtherTensor", {"codes": torch.ones(4, 8), "scale": torch.ones(4, 1)}, monkeypatch)
    torch.save({"layer.weight": weight}, tmp_path / "m.bin")
    with pytest.raises(UnsupportedFormat, match=r"layer\.weight.*torchao\.quantization\.OtherTensor"):
        open_source(tmp_path / "m.bin")
