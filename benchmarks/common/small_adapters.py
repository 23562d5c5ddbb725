"""LoRA adapters on small networks: really trained from a seed, written as peft writes them, trained on, refactored."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from benchmarks.common.small_nets import BATCH, Data, State

Factors = dict[str, tuple[torch.Tensor, torch.Tensor]]  # module -> A (rank, in), B (out, rank)


def drawn(net: nn.Module, rank: int, seed: int) -> Factors:
    """As trainers begin: A uniform by torch.manual_seed, B zero, in every linear layer but the last."""
    torch.manual_seed(seed)
    found: Factors = {}
    modules = [(name, module) for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    for name, module in modules[:-1]:
        first = torch.empty(rank, module.in_features)
        nn.init.kaiming_uniform_(first, a=math.sqrt(5))
        found[name] = first, torch.zeros(module.out_features, rank)
    return found


def learned(net: nn.Module, factors: Factors, data: Data, lengths: Sequence[int], rate: float, order: int) -> dict[int, Factors]:
    """The factors after each of these numbers of steps; the network itself stays as it is."""
    made = {name: tuple(nn.Parameter(part.clone()) for part in pair) for name, pair in factors.items()}
    weights = {name: value.detach() for name, value in net.state_dict().items()}
    generator = torch.Generator().manual_seed(95_000 + order)
    optimiser = torch.optim.AdamW([part for pair in made.values() for part in pair], rate)
    found = {}
    for step in range(1, max(lengths) + 1):
        chosen = torch.randint(0, len(data[0]), (BATCH,), generator=generator)
        changed = {f"{name}.weight": weights[f"{name}.weight"] + b @ a for name, (a, b) in made.items()}
        out = torch.func.functional_call(net, {**weights, **changed}, (data[0][chosen],))
        loss = nn.functional.cross_entropy(out, data[1][chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step in lengths:
            found[step] = {name: (a.detach().clone(), b.detach().clone()) for name, (a, b) in made.items()}
    return found


def stored(factors: Factors, dtype: torch.dtype = torch.float32) -> tuple[State, dict[str, str]]:
    """Tensors and config of a peft adapter."""
    tensors: State = {}
    for name, (a, b) in factors.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = a.to(dtype).numpy()
        tensors[f"base_model.model.{name}.lora_B.weight"] = b.to(dtype).numpy()
    rank = len(next(iter(factors.values()))[0])
    names = sorted({name.rsplit(".", 1)[-1] for name in factors})
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": names, "base_model_name_or_path": "org/base"}
    return tensors, {"adapter_config.json": json.dumps(config)}


def refactored(factors: Factors) -> Factors:
    """The same changes by their singular vectors."""
    found = {}
    for name, (a, b) in factors.items():
        u, s, v = torch.linalg.svd(b.double() @ a.double(), full_matrices=False)
        root = s[: len(a)].sqrt()
        found[name] = (root[:, None] * v[: len(a)]).float(), (u[:, : len(a)] * root).float()
    return found


def noised(factors: Factors, size: float, seed: int) -> Factors:
    """Independent changes of both factors, of this size beside their spread."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: tuple(part + size * part.std() * torch.randn(part.shape, generator=generator) for part in pair)  # type: ignore[misc]  # two
        for name, pair in factors.items()
    }


def merged(weights: State, seed: int, rank: int = 4, size: float = 0.3) -> State:
    """Weights with a low-rank change of every matrix but the token table and the head, `size` times as large."""
    rng, found = np.random.default_rng(seed), dict(weights)
    for name, value in weights.items():
        if value.ndim == 2 and not name.startswith(("embed", "head", "classifier", "score")):
            change = rng.standard_normal((len(value), rank)) @ rng.standard_normal((rank, value.shape[1]))
            found[name] = (value + size * value.std() / change.std() * change).astype(np.float32)
    return found
