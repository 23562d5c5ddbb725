"""A tensor's name taken apart: stack, layer, expert, module and parameter."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from msgspec import Struct

from modelkin_data import name_tables

MAX_DIGITS = 5  # a longer number is no layer or expert: it would make the layers' numbers unbounded


class SplitName(Struct, frozen=True):
    """`model.layers.3.mlp.experts.7.up_proj.weight` is stack `model.layers`, layer 3, expert 7, module `mlp.experts.#.up_proj`, `weight`.

    `parameter` is `weight`, `bias`, a LoRA factor, or "" for a bare parameter; outside the stacks `stack` is "" and `layer` None.
    `rest` is all that follows the layer's number, as it stands.
    """

    name: str
    stack: str
    layer: int | None
    expert: int | None
    module: str
    parameter: str
    rest: str

    @property
    def full(self) -> str:
        """The whole name, without wrappers' noise."""
        return f"{self.stack}.{self.layer}.{self.rest}" if self.stack else self.rest


def split_name(name: str) -> SplitName:
    """Take a name apart. Any string will do; what does not look like a stack's tensor is all module."""
    patterns = _patterns()
    clean = patterns.noise.sub("", name)
    found = patterns.stack.search(clean)
    if found is None:
        return split_at(name, "", None, clean)
    return split_at(name, clean[: found.start(2) - 1], int(found[2]), clean[found.end() :])


def split_at(name: str, stack: str, layer: int | None, rest: str) -> SplitName:
    """The name, its stack and layer known; `rest` is what follows the layer's number, or the whole name outside the stacks."""
    expert, module = None, rest
    numbered = _patterns().expert.search(rest)
    if numbered is not None:
        expert, module = int(numbered[1]), f"{rest[: numbered.start()]}.experts.#.{rest[numbered.end() :]}".lstrip(".")
    factor = _LORA.fullmatch(module)
    if factor is not None:
        return SplitName(name, stack, layer, expert, factor[1], f"lora_{factor[2].lower()}", rest)
    ending = _PARAMETER.search(module)
    if ending is None:
        return SplitName(name, stack, layer, expert, module, "", rest)
    return SplitName(name, stack, layer, expert, module[: ending.start()], _PARAMETER_WORDS[ending[1]], rest)


_LORA = re.compile(r"(.*)\.lora_(A|B|embedding_A|embedding_B|magnitude_vector)(?:\.[^.]+)?(?:\.weight)?")
_PARAMETER = re.compile(r"[._](weight|bias|gamma|beta)$")
_PARAMETER_WORDS = {"weight": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}


class _Patterns(Struct, frozen=True):
    noise: re.Pattern[str]
    stack: re.Pattern[str]
    expert: re.Pattern[str]


@cache
def _patterns() -> _Patterns:
    tables = name_tables()
    return _Patterns(
        re.compile(rf"(?:(?<=\.)|^)(?:{_words(tables.noise)})\."),
        re.compile(rf"(?:^|\.)({_words(tables.stacks)})\.(\d{{1,{MAX_DIGITS}}})\."),
        re.compile(rf"(?:^|\.)(?:{_words(tables.experts)})\.(?:expert_)?(\d{{1,{MAX_DIGITS}}})\."),
    )


def _words(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in words)
