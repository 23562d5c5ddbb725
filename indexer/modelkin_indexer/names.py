"""Names of tensors: split into stack, layer, expert, module and parameter, and looked up in the tables of `modelkin_data`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from modelkin_data import NameRule, name_tables

MAX_DIGITS = 5  # a longer number is no layer or expert: it would make the layers' numbers unbounded
TOKENS = ("embedding", "token")


@dataclass(frozen=True, slots=True)
class SplitName:
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


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a module is: its component, and family and role where a rule knows it (else `rule` is None)."""

    component: str
    family: str = "other"
    role: str = ""
    rule: NameRule | None = None


def split_name(name: str) -> SplitName:
    """Take a name apart. Any string will do; what does not look like a stack's tensor is all module."""
    patterns = _patterns()
    clean = patterns.noise.sub("", name)
    found = patterns.stack.search(clean)
    stack, layer, rest = "", None, clean
    if found is not None:
        stack, layer, rest = clean[: found.start(2) - 1], int(found[2]), clean[found.end() :]
    expert, module = None, rest
    numbered = patterns.expert.search(rest)
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


@dataclass(frozen=True)
class _Patterns:
    noise: re.Pattern[str]
    stack: re.Pattern[str]
    expert: re.Pattern[str]


@cache
def _patterns() -> _Patterns:
    tables = name_tables()
    return _Patterns(
        re.compile(rf"(?:(?<=\.)|^)(?:{_words(tables.noise)})\."),
        re.compile(rf"(?:^|\.)({_words(tables.stacks)})\.(\d{{1,{MAX_DIGITS}}})\."),
        re.compile(rf"(?:^|\.)(?:{_words(tables.experts)})\.(\d{{1,{MAX_DIGITS}}})\."),
    )


def _words(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in words)


@cache
def _pattern(name: str, scope: str) -> re.Pattern[str]:
    """A table's name as a regular expression for `fullmatch`; outside the stacks with a group `prefix`, as short as possible.

    Compiled when it is first tried: all of them take a tenth of a second, and a usual model is known by the first few.
    """
    words = name_tables().words
    body = re.sub(r"\{([a-z]+)\}", lambda word: f"(?:{words[word[1]]})", name).replace(".", r"\.")
    return re.compile(body if scope == "layer" else rf"(?:(?P<prefix>.*?)\.)??(?:{body})")


class Naming:
    """What the names of one model mean, seen together: siblings, the prefixes of stacks and the encoder of an encoder-decoder count."""

    def __init__(self, names: Iterable[SplitName], axes: Mapping[str, int], model_type: str) -> None:
        """`axes` counts the axes of each tensor: a convolution over time has 3, one over pictures more."""
        self._model_type = model_type
        self._modules: dict[str, set[str]] = {}
        self._axes: dict[tuple[str, str], int] = {}
        self._known: dict[tuple[str, str], Meaning] = {}
        names = tuple(names)
        for split in names:
            self._modules.setdefault(split.stack, set()).add(split.module)
            key = split.stack, split.module
            self._axes[key] = max(self._axes.get(key, 0), axes[split.name])
        self._prefixes = {prefix for stack in self._modules for prefix in _ancestors(stack)}
        self._has_decoder = any(_plain_component(stack.split(".")) == "text" and "decoder" in stack.split(".") for stack in self._modules)
        self._renamed: dict[str, str] = {}
        self._post_norm: set[str] = set()
        self._settle(names, axes)

    def meaning(self, split: SplitName) -> Meaning:
        """What this name's module is."""
        key = split.stack, split.module
        if key not in self._known:
            self._known[key] = self._look_up(split)
        return self._known[key]

    def _component(self, stack: str, module: str) -> str:
        """By the parts of the stack's prefix, else by all parts of the name."""
        parts = (stack.rpartition(".")[0] if stack else module).split(".")
        component = _plain_component(parts)
        if component == "text" and self._has_decoder and "encoder" in parts and "decoder" not in parts:
            component = "encoder"
        return self._renamed.get(component, component)

    def _settle(self, names: tuple[SplitName, ...], axes: Mapping[str, int]) -> None:
        """Find what only the whole tells: components without tokens but with convolutions, and those without a final norm."""
        outside = [(split, self.meaning(split)) for split in names if not split.stack]
        roles = {(meaning.component, meaning.family, meaning.role) for _, meaning in outside}
        taken = {meaning.component for _, meaning in outside} | {self._component(stack, "") for stack in self._modules if stack}
        renamed: dict[str, str] = {}
        for split, meaning in outside:
            sense = "audio" if self._axes[split.stack, split.module] == 3 else "vision"
            tokens = (meaning.component, *TOKENS) in roles and meaning.component == "text"
            if meaning.family == "conv" and meaning.component in ("text", "encoder") and not tokens and sense not in taken:
                renamed[meaning.component] = sense
        finals = {component for component, family, role in roles if (family, role) == ("norm", "final")}
        self._post_norm = {renamed.get(component, component) for component in taken - finals}
        if renamed:
            self._renamed = renamed
            self._known.clear()

    def _look_up(self, split: SplitName) -> Meaning:
        component = self._component(split.stack, split.module)
        for rule in name_tables().rules:
            if (rule.scope == "layer") != bool(split.stack) or not self._holds(rule, split, component):
                continue
            found = _pattern(rule.name, rule.scope).fullmatch(split.module)
            if found is not None and self._known_prefix(found.groupdict().get("prefix")):
                return Meaning(component, rule.family, _role(rule.role, found), rule)
        return Meaning(component)

    def _holds(self, rule: NameRule, split: SplitName, component: str) -> bool:
        """Whether a rule's conditions are met."""
        return (
            (not rule.component or rule.component == component)
            and (not rule.sibling or rule.sibling in self._modules[split.stack])
            and (not rule.models or self._model_type in rule.models)
            and (not rule.post_norm or component in self._post_norm)
            and (not rule.axes or rule.axes == self._axes.get((split.stack, split.module)))
        )

    def _known_prefix(self, prefix: str | None) -> bool:
        """A prefix is known if a stack has it too, or if it is made of wrappers' and components' words."""
        if not prefix:
            return True
        start = max((known for known in _ancestors(prefix) if known in self._prefixes), key=len, default="")
        return all(part in _prefix_words() for part in prefix[len(start) :].split(".") if part)


def _role(role: str, found: re.Match[str]) -> str:
    groups = found.groups()[1 if "prefix" in found.re.groupindex else 0 :]
    return role.replace("{1}", next((text for text in groups if text is not None), ""))


def _ancestors(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


@cache
def _prefix_words() -> frozenset[str]:
    tables = name_tables()
    return frozenset(tables.wrappers).union(*(rule.parts for rule in tables.components))


def _plain_component(parts: list[str]) -> str:
    for rule in name_tables().components:
        if not set(rule.parts).isdisjoint(parts):
            return rule.component
    return "text"
