"""Models that share nothing with the one they are made of but its shapes and statistics: what strangers of equal shape look like at worst.

shuffled        every tensor's own numbers in another order: all its moments and quantiles
reinitialised   normal numbers with the tensor's mean and standard deviation
matched         normal numbers with the mean and standard deviation of every row and of every column that has at least FEWEST numbers: of
                fewer numbers these would be a good part of the numbers themselves
"""

from __future__ import annotations

import shutil
from collections.abc import Container
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

KINDS = ("shuffled", "reinitialised", "matched")
Tensors = dict[str, torch.Tensor]
FEWEST = 64
BALANCING = 8  # rounds in which row and column spreads are brought to their goals


def load(folder: Path) -> Tensors:
    """All tensors of a folder's safetensors files."""
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def save(tensors: Tensors, like: Path, folder: Path) -> Path:
    """A folder with these tensors, and beside them what `like` has beside its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in like.iterdir():
        if file.suffix == ".json" and not file.name.endswith(".index.json"):
            shutil.copy(file, folder / file.name)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


def twin(tensors: Tensors, kind: str, seed: int, fixed: Container[str] = ()) -> Tensors:
    """A stranger with the statistics of these tensors. Those named in `fixed` (masks and other buffers) and integers stay as they are."""
    draw = torch.Generator().manual_seed(seed)
    return {
        name: tensor if name in fixed or not tensor.is_floating_point() else _drawn(tensor.float(), kind, draw).to(tensor.dtype)
        for name, tensor in tensors.items()
    }


def _drawn(values: torch.Tensor, kind: str, draw: torch.Generator) -> torch.Tensor:
    if kind == "shuffled":
        return values.flatten()[torch.randperm(values.numel(), generator=draw)].view(values.shape)
    noise = torch.randn(values.shape, generator=draw)
    if kind == "reinitialised" or values.ndim < 2:
        return values.mean() + values.std(unbiased=False) * noise
    return _matched(values.flatten(1), noise.flatten(1)).view(values.shape)


def _matched(values: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Noise with the mean and spread of `values`, both (rows, columns), and where that is no copy with those of its rows and columns."""
    axes = [axis for axis in (1, 0) if values.shape[axis] >= FEWEST]
    means = sum((values.mean(axis, keepdim=True) for axis in axes), (1 - len(axes)) * values.mean())
    left, drawn = values - means, noise
    for axis in axes * BALANCING or (None,):
        drawn = drawn - drawn.mean(axis, keepdim=True)
        drawn = drawn * left.std(axis, keepdim=True, unbiased=False) / drawn.std(axis, keepdim=True, unbiased=False).clamp(min=1e-12)
    return means + drawn
