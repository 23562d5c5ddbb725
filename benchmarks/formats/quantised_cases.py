"""What a case of quantised_reference.py is: what a library stored, and what it reads back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from msgspec import Struct, field

ROWS, COLUMNS = 160, 256  # no power of two, so that blocks of 128 rows end short
EXACT, BFLOAT16, FLOAT16 = 1e-6, 2.0**-7, 2.0**-10
MODULE = "model.layers.0.self_attn.q_proj"


class Case(Struct):
    """What a library stored and what it reads back. `tolerance` is relative to the largest number; `write` writes files of other kinds."""

    library: str
    name: str
    stored: dict[str, torch.Tensor]
    decoded: torch.Tensor
    config: dict[str, Any] = field(default_factory=dict)
    tolerance: float = EXACT
    tensor: str = f"{MODULE}.weight"
    metadata: dict[str, str] = field(default_factory=dict)
    beside: dict[str, Any] = field(default_factory=dict)  # what else config.json says
    write: Callable[[Path], None] | None = None


def weight(rows: int = ROWS, columns: int = COLUMNS, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator) * 0.02 * (1 + torch.rand(rows, 1, generator=generator))


SIZES = ((37, 64), (129, 192), (7, 128), (33, 51), (5, 7), (64, 200))
REFUSALS = (ValueError, RuntimeError, AssertionError)  # of libraries, of sizes that they do not take
