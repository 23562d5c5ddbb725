"""Adapters of each kind of peft as it saves them, and what they make of a weight, worked out from the definitions number by number."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct, field
from safetensors.numpy import save_file

MODULE = "model.layers.0.self_attn.q_proj"
WEIGHT, BIAS = f"{MODULE}.weight", f"{MODULE}.bias"
OUT, IN, RANK = 12, 16, 4


class Written(Struct):
    """`stored`: parameters of the module; those that all modules share have a dot before their names. `alone`: the change, if it tells."""

    kind: str
    words: str
    stored: dict[str, Any]
    summed: Callable[[Any], Any]
    alone: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    bias: Callable[[Any], Any] | None = None

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True)
        tensors = {self._name(name): np.ascontiguousarray(tensor) for name, tensor in self.stored.items()}
        save_file(tensors, folder / "adapter_model.safetensors")
        said = {"peft_type": self.kind, "base_model_name_or_path": "somebody/base", **self.config}
        (folder / "adapter_config.json").write_text(json.dumps(said))
        return folder

    def _name(self, name: str) -> str:
        return f"base_model{name}" if name.startswith(".") else f"base_model.model.{MODULE}.{name}"


def random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(seed: int, *shape: int) -> Any:
    return random(seed).standard_normal(shape).astype(np.float32)


def base() -> dict[str, Any]:
    return {WEIGHT: normal(99, OUT, IN), BIAS: normal(98, OUT), "model.norm.weight": np.ones(IN, np.float32)}


def factors(last: str = ".weight", seed: int = 1) -> dict[str, Any]:
    return {f"lora_A{last}": normal(seed, RANK, IN), f"lora_B{last}": normal(seed + 1, OUT, RANK)}


def added(kind: str, words: str, stored: dict[str, Any], change: Any, tells: bool = True, **config: Any) -> Written:
    return Written(kind, words, stored, lambda w: w + change, change if tells else None, config)


def lora_kin() -> dict[str, Written]:
    f = factors()
    a, b = f.values()
    made = {"lora": added("LORA", "LoRA", f, 2 * b @ a, lora_alpha=8)}
    middle = normal(3, RANK, 1)
    ada = {name.removesuffix(".weight"): tensor for name, tensor in f.items()} | {"lora_E": middle}
    made["adalora"] = added("ADALORA", "AdaLoRA", ada, 8 / (RANK + 1e-5) * b @ (middle * a), lora_alpha=8)
    bias = normal(4, OUT)
    made["bias"] = added("LORA", "LoRA", {**f, "lora_B.bias": bias}, 2 * b @ a, lora_alpha=8, lora_bias=True)
    made["bias"].bias = lambda old: old + 2 * bias
    lengths = normal(5, OUT) ** 2 + 1
    dora = Written(
        "LORA", "DoRA", {**f, "lora_magnitude_vector": lengths}, lambda w: _dora(w + b @ a, lengths), b @ a, {"lora_alpha": RANK}
    )
    u, s, v = np.linalg.svd(base()[WEIGHT], full_matrices=False)
    made |= {
        "dora": dora,
        "pissa": added("LORA", "PiSSA", f, b @ a - (u[:, :RANK] * s[:RANK]) @ v[:RANK], tells=False, init_lora_weights="pissa"),
    }
    kasa = 2 * (b * middle[:, 0]) @ a
    made["kasa"] = added("LORA", "KaSA", {**f, "lora_diag": middle[:, 0]}, kasa, lora_alpha=8, kasa_config={"beta": 0.1})
    made["kasa"].summed = lambda w: w + kasa - (u[:, -RANK:] * s[-RANK:]) @ v[-RANK:]
    q, r = np.linalg.qr(base()[WEIGHT])
    olora = 2 * b @ a - 2 * q[:, :RANK] @ r[:RANK]
    made["olora"] = added("LORA", "OLoRA", f, olora, tells=False, init_lora_weights="olora", lora_alpha=8)
    stacked, blocks = normal(6, RANK, IN // 2), np.zeros((RANK, IN), np.float32)
    blocks[: RANK // 2, : IN // 2], blocks[RANK // 2 :, IN // 2 :] = stacked[: RANK // 2], stacked[RANK // 2 :]
    settings = {"use_bdlora": {"target_modules_bd_a": ["q_proj"], "nblocks": 2}, "lora_alpha": RANK}
    made["bd-lora"] = added("LORA", "BD-LoRA", {"lora_A.weight": stacked, "lora_B.weight": b}, b @ blocks, **settings)
    return made


def _dora(summed: Any, lengths: Any) -> Any:
    return lengths[:, None] * summed / np.linalg.norm(summed, axis=1, keepdims=True)


def products() -> dict[str, Written]:
    one, two, three, four = normal(10, OUT, RANK), normal(11, RANK, IN), normal(12, OUT, RANK), normal(13, RANK, IN)
    halves = {"hada_w1_a": one, "hada_w1_b": two, "hada_w2_a": three, "hada_w2_b": four}
    made = {"loha": added("LOHA", "LoHa", halves, 1.5 * (one @ two) * (three @ four), alpha=6)}
    small, large = normal(14, 3, 4), normal(15, OUT // 3, IN // 4)
    made["lokr"] = added("LOKR", "LoKr", {"lokr_w1": small, "lokr_w2": large}, 3 * np.kron(small, large), alpha=6, r=2)
    cut = {"lokr_w1": small, "lokr_w2_a": large[:, :2], "lokr_w2_b": large[:2]}
    made["lokr cut"] = added("LOKR", "LoKr", cut, 3 * np.kron(small, large[:, :2] @ large[:2]), alpha=6)
    bank, down, up = normal(16, 10, 4), normal(17, RANK, IN // 4, 10), normal(18, OUT // 4, RANK, 10)
    lower = np.array([np.concatenate([_mixture(tile, bank) for tile in row]) for row in down])
    upper = np.array([[_mixture(logits, bank) for logits in tile] for tile in up]).transpose(0, 2, 1).reshape(OUT, RANK)
    stored = {"vblora_logits_A": down, "vblora_logits_B": up, ".vblora_vector_bank": bank}
    made["vb-lora"] = added("VBLORA", "VB-LoRA", stored, upper @ lower, topk=2)
    kernel = normal(19, 3, 4, 4)
    turned = np.array([[kernel[i // 4, j // 4, (j - i) % 4] for j in range(IN)] for i in range(OUT)])
    made["c3a"] = added("C3A", "C3A", {"c3a_kernel": kernel}, turned / IN)
    a, b, strength, norms = normal(20, RANK, IN), normal(21, OUT, RANK), np.array([2.0], np.float32), normal(22, IN)
    stored = {"delora_A": a, "delora_B": b, "delora_lambda": strength, "delora_w_norm": norms}
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=0)
    made["delora"] = added("DELORA", "DeLoRA", stored, (b * (2 / RANK / lengths)) @ a * norms)
    a, b = normal(23, 2, IN // 2, RANK), normal(24, 2, RANK, OUT // 2)
    made["gralora"] = added("GRALORA", "GraLoRA", {"gralora_A": a, "gralora_B": b}, _gralora(a, b) * 6 / RANK, alpha=6)
    return made


def _mixture(logits: Any, bank: Any) -> Any:
    best = np.argsort(logits)[-2:]
    shares = np.exp(logits[best]) / np.exp(logits[best]).sum()
    return shares @ bank[best]


def _gralora(a: Any, b: Any) -> Any:
    """Input i of block column c gives rank (part, s) to block row `part`, at rank (c, s) of its B."""
    change = np.zeros((OUT, IN))
    for column in range(2):
        for part in range(2):
            for s in range(RANK // 2):
                x, y = a[column, :, part * RANK // 2 + s], b[part, column * RANK // 2 + s]
                change[part * OUT // 2 : (part + 1) * OUT // 2, column * IN // 2 : (column + 1) * IN // 2] += np.outer(y, x)
    return change


def on_the_base() -> dict[str, Written]:
    """Kinds whose change only the base tells."""
    a, b, up, down = normal(30, RANK, IN + 3), normal(31, OUT + 2, RANK), normal(32, OUT), normal(33, RANK)
    vera = {"vera_lambda_b": up, "vera_lambda_d": down, ".vera_A": a, ".vera_B": b}
    change = (up[:, None] * b[:OUT]) @ (down[:, None] * a[:, :IN])
    made = {"vera": added("VERA", "VeRA", vera, change, tells=False)}
    wide = np.concatenate([a, normal(34, RANK, IN + 3)])
    pvera = {"pvera_lambda_b": up, "pvera_lambda_d": np.tile(down, 2), ".pvera_A": wide, ".pvera_B": b}
    made["pvera"] = added("PVERA", "PVeRA", pvera, change, tells=False)
    narrow, large, strength, gains = normal(35, RANK, 1, OUT), normal(36, IN, 3, RANK), normal(37, RANK, 3), normal(38, 3, OUT)
    update = (strength[:, :, None] * narrow * gains[None]).reshape(-1, OUT)
    stored = {"randlora_lambda": strength, "randlora_gamma": gains, ".randlora_A": narrow, ".randlora_B": large}
    change = (large.reshape(IN, -1) @ update).T * 6 / RANK
    made["randlora"] = added("RANDLORA", "RandLoRA", stored, change, tells=False, randlora_alpha=6)
    mirrors = normal(39, IN, 3)
    reflected = np.eye(IN)
    for mirror in mirrors.T:
        reflected = reflected @ (np.eye(IN) - 2 * np.outer(mirror, mirror) / (mirror @ mirror))
    made["hra"] = Written("HRA", "HRA", {"hra_u": mirrors}, lambda w: w @ reflected)
    values, places = normal(40, 9), random(41).choice(OUT * IN, 9, replace=False)
    sparse = np.zeros(OUT * IN, np.float32)
    sparse[places] = values
    indices = np.stack([places // IN, places % IN]).astype(np.int32)
    made["shira"] = added("SHIRA", "SHiRA", {"shira_weight": values, "shira_indices": indices}, sparse.reshape(OUT, IN), tells=False)
    block = normal(42, 5, OUT)
    tiled = np.array([[block[column % 5, row] for column in range(IN)] for row in range(OUT)])
    made["miss"] = added("MISS", "MiSS", {"miss_block": block}, tiled, tells=False)
    hira = {"hira_A": normal(43, RANK, IN), "hira_B": normal(46, OUT, RANK)}
    made["hira"] = Written("HIRA", "HiRA", hira, lambda w: w * (1 + hira["hira_B"] @ hira["hira_A"]))
    ia3 = normal(44, OUT, 1)
    made["ia3"] = Written("IA3", "IA3", {"ia3_l": ia3}, lambda w: w * ia3, bias=lambda old: old * ia3[:, 0])
    made["ia3 columns"] = Written("IA3", "IA3", {"ia3_l": normal(45, 1, IN)}, lambda w: w * normal(45, 1, IN))
    return made | turned() | drawn()


def turned() -> dict[str, Written]:
    """Rotations; blocks of four inputs, groups of four outputs."""
    numbers = normal(50, IN // 4, 6) * 0.1
    rotation = np.zeros((IN, IN))
    for index, above in enumerate(numbers):
        skew = np.zeros((4, 4))
        skew[np.triu_indices(4, 1)] = above
        skew -= skew.T
        rotation[4 * index : 4 * index + 4, 4 * index : 4 * index + 4] = np.linalg.inv(np.eye(4) + skew) @ (np.eye(4) - skew)
    made = {"oft": Written("OFT", "OFT", {"oft_R.weight": numbers}, lambda w: w @ rotation.T, config={"use_cayley_neumann": False})}
    stored, gains = normal(51, 1, IN // 4, 4, 4) * 0.1, normal(52, OUT, 1)
    butterfly = np.zeros((IN, IN))
    for index, numbers in enumerate(stored[0]):
        skew = (numbers - numbers.T) / 2
        butterfly[4 * index : 4 * index + 4, 4 * index : 4 * index + 4] = np.linalg.inv(np.eye(4) + skew) @ (np.eye(4) - skew)
    made["boft"] = Written("BOFT", "BOFT", {"boft_R": stored, "boft_s": gains}, lambda w: w @ butterfly.T * gains)
    angles, sizes = normal(53, OUT // 2), normal(54, OUT // 2)
    matrix = np.zeros((OUT, OUT))
    for group in range(OUT // 4):
        for pair in range(2):
            first, second, angle, size = 4 * group + pair, 4 * group + pair + 2, angles[2 * group + pair], sizes[2 * group + pair]
            matrix[first, [first, second]] = size * np.cos(angle), -size * np.sin(angle)
            matrix[second, [second, first]] = size * np.cos(angle), size * np.sin(angle)
    config = {"variant": "road_1", "group_size": 4}
    stored = {"road_theta": angles, "road_alpha": sizes}
    return made | {"road": Written("ROAD", "RoAd", stored, lambda w: matrix @ w, config=config, bias=lambda old: matrix @ old)}


# The first nine of torch.randperm(12 * 16) with a generator of seed 777.
DRAWN = (167, 83, 153, 143, 63, 168, 51, 9, 183)


def drawn() -> dict[str, Written]:
    """Spectra at places that are drawn from a seed."""
    values = normal(60, len(DRAWN))
    dense = np.zeros(OUT * IN)
    dense[list(DRAWN)] = values
    dense = dense.reshape(OUT, IN)
    fourier = added("FOURIERFT", "FourierFT", {"fourierft_spectrum": values}, np.fft.ifft2(dense).real * 10, tells=False, scaling=10)
    plain = added("WAVEFT", "WaveFT", {"waveft_spectrum": values}, dense * 3, tells=False, scaling=3, use_idwt=False)
    haar = np.zeros((OUT, IN))
    for i in range(OUT):
        for j in range(IN):
            a, h, v, d = (dense[i // 2 + y, j // 2 + x] for y in (0, OUT // 2) for x in (0, IN // 2))
            haar[i, j] = (a + (-1) ** i * h + (-1) ** j * v + (-1) ** (i + j) * d) / 2
    waves = added("WAVEFT", "WaveFT", {"waveft_spectrum": values}, haar * 3, tells=False, scaling=3)
    rows = normal(61, 2, IN)

    def replaced(w: Any) -> Any:
        w = w.copy()
        w[[3, 7]] = rows
        return w

    tokens = Written("TRAINABLE_TOKENS", "trainable tokens", {"trainable_tokens_delta": rows}, replaced, config={"token_indices": [3, 7]})
    return {"fourier": fourier, "wave, plain": plain, "wave": waves, "tokens": tokens}


def every_kind() -> dict[str, Written]:
    return lora_kin() | products() | on_the_base()
