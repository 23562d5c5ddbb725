"""What adapter_config.json says of a PEFT adapter. Input of a stranger: patterns in it are compiled only where they are simple."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from math import isfinite, sqrt
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from modelkin_indexer.errors import DamagedFile, SourceError, UnsupportedFormat
from modelkin_indexer.source import Source
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, MAX_CONFIG, is_folder, read_small

ADAPTER_CONFIG = "adapter_config.json"
SIMPLE_PATTERN = re.compile(r"\^?(?:[\w-]|\.\*|\\\.|\.|\\d\+)+\$?")
MOST_WILDCARDS = 2  # `.*` in one pattern: matching takes time that grows with its power
MAX_BASE = 512  # characters of a model's name
LARGEST = 1 << 31  # of a whole number that the config states


class AdapterConfig(Struct, frozen=True):
    """`alpha` is None where no file says it; `alphas` are those of modules that match a pattern. `said` is all of the config."""

    path: Path
    there: bool = False
    kind: str = ""
    base: str = ""
    alpha: float | None = None
    alphas: Mapping[str, float] = field(default_factory=dict)
    rank_stabilised: bool = False
    transposed: bool = False
    said: Mapping[str, Any] = field(default_factory=dict)

    def scale(self, module: str, rank: float) -> float:
        """alpha / rank, or alpha / sqrt(rank) if rank-stabilised (arXiv 2312.03732); 1 where alpha is not known."""
        alpha = next((value for key, value in self.alphas.items() if re.fullmatch(rf"(?:.*\.)?(?:{key})", module)), self.alpha)
        if alpha is None:
            return 1.0
        return alpha / (sqrt(rank) if self.rank_stabilised else rank)

    def number(self, key: str, default: float) -> float:
        """A stated number. Raises DamagedFile for what is none."""
        value = self.said.get(key)
        return default if value is None else _number(self.path, key, value)

    def whole(self, key: str, default: int) -> int:
        """A stated whole number. Raises DamagedFile for what is none."""
        value = self.said.get(key)
        if value is None:
            return default
        if type(value) is not int or not -LARGEST < value < LARGEST:
            raise _nonsense(self.path, key, value)
        return value

    def word(self, key: str) -> str:
        """A stated word, in small letters; "" for anything else."""
        value = self.said.get(key)
        return value.lower() if isinstance(value, str) else ""

    def section(self, key: str) -> Mapping[str, Any]:
        """A section of the config, {} where there is none."""
        value = self.said.get(key)
        return value if isinstance(value, dict) else {}


def read_adapter_config(source: Source) -> tuple[AdapterConfig, tuple[str, ...]]:
    """The config beside the weights, and notes. Raises SourceError where what it says cannot be used."""
    folder = source.path if is_folder(source.path) else source.path.parent
    path = folder / ADAPTER_CONFIG
    if not os.path.lexists(path):
        return AdapterConfig(path), ()
    try:
        said = json.loads(read_small(path, MAX_CONFIG).decode("utf-8"))
        if not isinstance(said, dict):
            raise ValueError("is not a JSON object")
    except (SourceError, ValueError, RecursionError) as error:
        return AdapterConfig(path), (f"{ADAPTER_CONFIG} left out: {error}",)
    kind, base = str(said.get("peft_type") or "").upper(), said.get("base_model_name_or_path")
    alphas = said.get("alpha_pattern") or {}
    if not isinstance(alphas, dict):
        raise _nonsense(path, "alpha_pattern", alphas)
    alpha = next((key for key in ("lora_alpha", "alpha") if said.get(key) is not None), "")
    return AdapterConfig(
        path,
        True,
        kind,
        base[:MAX_BASE].encode("utf-8", "backslashreplace").decode() if isinstance(base, str) else "",
        _number(path, alpha, said[alpha]) if alpha else None,
        {_pattern(path, key): _number(path, "alpha_pattern", value) for key, value in alphas.items()},
        said.get("use_rslora") is True,
        said.get("fan_in_fan_out") is True,
        said,
    ), ()


def _number(path: Path, name: str, value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not isfinite(value):
        raise _nonsense(path, name, value)
    return float(value)


def _pattern(path: Path, pattern: str) -> str:
    """A pattern that can be compiled without harm. Raises UnsupportedFormat."""
    if len(pattern) > MAX_BASE or not SIMPLE_PATTERN.fullmatch(pattern) or pattern.count(".*") > MOST_WILDCARDS:
        problem = f"alpha_pattern has the pattern {pattern[:80]!r}, which this version does not follow"
        raise UnsupportedFormat(problem, path=path, remedy="Merge the adapter into its base.")
    return pattern.removeprefix("^").removesuffix("$")


def _nonsense(path: Path, name: str, value: Any) -> DamagedFile:
    return DamagedFile(f"says {name} {str(value)[:80]!r}", path=path, remedy=FETCH_AGAIN)
