"""A small model that PyTorch exports to ONNX and ONNX Runtime quantises in each of its ways: for models_reference.py."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from safetensors.torch import save_file

WIDTH, NEURONS, TOKENS, LAYERS = 128, 384, 500, 3
Quantise = Callable[[str, str], None]  # from a file to another


class Layer(torch.nn.Module):
    """Gated layers with a norm before."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.q_proj = torch.nn.LayerNorm(WIDTH), torch.nn.Linear(WIDTH, WIDTH)
        self.v_proj = torch.nn.Linear(WIDTH, WIDTH, bias=False)
        self.up_proj, self.down_proj = (torch.nn.Linear(*shape, bias=False) for shape in ((WIDTH, NEURONS), (NEURONS, WIDTH)))

    def forward(self, x: Any) -> Any:
        y = self.norm(x)
        return x + self.down_proj(torch.nn.functional.gelu(self.up_proj(self.q_proj(y) * torch.sigmoid(self.v_proj(y)))))


class Model(torch.nn.Module):
    """Tokens, layers, an LSTM if asked for, a head."""

    def __init__(self, recurrent: bool) -> None:
        super().__init__()
        self.embed_tokens = torch.nn.Embedding(TOKENS, WIDTH)
        self.layers = torch.nn.ModuleList(Layer() for _ in range(LAYERS))
        self.rnn = torch.nn.LSTM(WIDTH, WIDTH, batch_first=True) if recurrent else None
        self.lm_head = torch.nn.Linear(WIDTH, TOKENS, bias=False)

    def forward(self, tokens: Any) -> Any:
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x)
        if self.rnn is not None:
            x, _ = self.rnn(x)
        return self.lm_head(x)


def _model(form: str, seed: int) -> Model:
    model, generator = Model("LSTM" in form).eval(), torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    with torch.no_grad():
        for one in model.parameters():
            new = 0.05 * draw(*one.shape) * torch.exp(0.3 * draw(one.shape[0], 1)) if one.ndim > 1 else 1 + 0.2 * draw(*one.shape)
            one.copy_(new)
    return model


def original(form: str, seed: int, folder: Path) -> None:
    """The same weights in safetensors."""
    save_file({name: tensor.contiguous() for name, tensor in _model(form, seed).state_dict().items()}, folder / "model.safetensors")


def write(form: str, seed: int, folder: Path) -> None:
    """The model of a seed in one of the forms, in the folder."""
    with tempfile.TemporaryDirectory() as made:
        plain = Path(made) / "plain.onnx"
        torch.onnx.export(_model(form, seed), (torch.zeros(1, 8, dtype=torch.long),), str(plain), input_names=["t"], dynamo=False)
        _quantised(form)(str(plain), str(folder / "model.onnx"))


def _quantised(form: str) -> Quantise:
    from onnxruntime import quantization
    from onnxruntime.quantization import QuantFormat, QuantType, matmul_nbits_quantizer

    ways: dict[str, Quantise] = {
        "MatMulBnb4, fp4": _of_bitsandbytes(0),
        "MatMulBnb4, nf4": _of_bitsandbytes(1),
        "dynamic int8": lambda a, b: quantization.quantize_dynamic(a, b, weight_type=QuantType.QInt8),
        "dynamic uint8, rows": lambda a, b: quantization.quantize_dynamic(a, b, weight_type=QuantType.QUInt8, per_channel=True),
        "dynamic int8, LSTM": lambda a, b: quantization.quantize_dynamic(
            a, b, weight_type=QuantType.QInt8, op_types_to_quantize=["LSTM", "MatMul", "Gather"]
        ),
        "static, operators": lambda a, b: quantization.quantize_static(a, b, _inputs(), quant_format=QuantFormat.QOperator),
        **{
            f"static, {kind}": lambda a, b, kind=kind: quantization.quantize_static(  # type: ignore[misc]
                a, b, _inputs(), quant_format=QuantFormat.QDQ, weight_type=getattr(QuantType, kind)
            )
            for kind in ("QInt8", "QInt16", "QInt4")
        },
        "blocks, 4 bits, HQQ": _in_blocks(lambda: {"algo_config": matmul_nbits_quantizer.HQQWeightOnlyQuantConfig(block_size=32, bits=4)}),
    }
    for bits in (2, 4, 8):
        for symmetric in (True, False):
            told = f"blocks, {bits} bits{'' if symmetric else ', zero points'}"
            ways[told] = _in_blocks(lambda bits=bits, even=symmetric: {"block_size": 32, "is_symmetric": even, "bits": bits})  # type: ignore[misc]
    tables: dict[str, Any] = {"block_size": 32, "bits": 4, "op_types_to_quantize": ("MatMul", "Gather")}
    default = matmul_nbits_quantizer.DefaultWeightOnlyQuantConfig
    ways["blocks, 4 bits, tables too"] = _in_blocks(lambda: {"algo_config": default(is_symmetric=False, **tables)})
    ways["blocks, 4 bits, as chains"] = _in_blocks(lambda: {"algo_config": default(block_size=32, bits=4, quant_format=QuantFormat.QDQ)})
    return ways[form]


def _in_blocks(options: Callable[[], dict[str, Any]]) -> Quantise:
    def quantise(source: str, target: str) -> None:
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        quantizer = MatMulNBitsQuantizer(onnx.load(source), **options())
        quantizer.process()
        quantizer.model.save_model_to_file(target, False)

    return quantise


def _of_bitsandbytes(kind: int) -> Quantise:
    def quantise(source: str, target: str) -> None:
        from onnxruntime.quantization.matmul_bnb4_quantizer import MatMulBnb4Quantizer

        quantizer = MatMulBnb4Quantizer(onnx.load(source), kind, 64)
        quantizer.process()
        quantizer.model.save_model_to_file(target, False)

    return quantise


def _inputs() -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Inputs(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            rng = np.random.default_rng(0)
            self._left = iter([{"t": rng.integers(0, TOKENS, (1, 8))} for _ in range(4)])

        def get_next(self) -> Any:
            return next(self._left, None)

    return Inputs()


FORMS = [
    ("onnxruntime", form)
    for form in (
        *(f"blocks, {bits} bits{zeros}" for bits in (2, 4, 8) for zeros in ("", ", zero points")),
        *("blocks, 4 bits, HQQ", "blocks, 4 bits, tables too", "blocks, 4 bits, as chains", "MatMulBnb4, fp4", "MatMulBnb4, nf4"),
        *("dynamic int8", "dynamic uint8, rows", "dynamic int8, LSTM", "static, operators"),
        *("static, QInt8", "static, QInt16", "static, QInt4"),
    )
]
