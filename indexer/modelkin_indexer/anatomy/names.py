"""Names of tensors looked up in the tables of `modelkin_data`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from math import prod

from msgspec import Struct

from modelkin_data import NameRule, name_tables
from modelkin_indexer.anatomy.splits import SplitName
from modelkin_indexer.anatomy.unknown_names import by_shape, by_words

TEXT = "text"
TOKENS = ("embedding", "token")
BACKBONES = ("backbone", "conv_encoder", "pixel_level_module", "vision_backbone")  # what a head or a decoder of the model stands on
# Of a table's name: what is more than words, dots, groups and alternatives; and the words that a name may end with.
NOT_PLAIN = re.compile(r"[\\\[\]?*+^$]|\{[^a-z]|\}(?=[)|]|$)|\|[)|]|\(\||^\||\|$")
LAST_WORDS = re.compile(r"[^().|{}]+(?=[)|]|$)")
HEARING = ("audio", "speech")  # words of a model_type that listens, though its pictures of sound are convolved as pictures are


class Meaning(Struct, frozen=True):
    """What a module is: its component, family and role by a rule of the tables, by words (then `rule` is made of them), or guessed."""

    component: str
    family: str
    role: str
    rule: NameRule
    known: bool = True
    guessed: bool = False


@cache
def _pattern(name: str, scope: str) -> re.Pattern[str]:
    """A table's name as a regular expression for `fullmatch`; outside the stacks with a group `prefix`, as short as possible.

    Compiled when it is first tried: all of them take a tenth of a second, and a usual model is known by the first few.
    """
    words = name_tables().words
    body = re.sub(r"\{([a-z]+)\}", lambda word: f"(?:{words[word[1]]})", name).replace(".", r"\.")
    return re.compile(body if scope == "layer" else rf"(?:(?P<prefix>.*?)\.)??(?:{body})")


@cache
def _endings(name: str) -> tuple[str, ...] | None:
    """What a module ends with that a table's name fits, told without compiling it; None where the name does not tell."""
    plain = name.replace("(?:", "(")
    return None if NOT_PLAIN.search(plain) else tuple(LAST_WORDS.findall(plain))


class Naming:
    """What the names of one model mean, seen together: siblings, the prefixes of stacks and the encoder of an encoder-decoder count."""

    def __init__(self, names: Iterable[SplitName], shapes: Mapping[str, Sequence[int]], model_type: str) -> None:
        """`shapes` are those of the tensors: a convolution over time has 3 axes, one over pictures more."""
        self._model_type = model_type
        self._hears = not set(HEARING).isdisjoint(re.split(r"[^a-z]+", model_type))
        self._modules: dict[str, set[str]] = {}
        self._shapes: dict[tuple[str, str], Sequence[int]] = {}
        self._known: dict[tuple[str, str], Meaning] = {}
        names = tuple(names)
        for split in names:
            self._modules.setdefault(split.stack, set()).add(split.module)
            key = split.stack, split.module
            self._shapes[key] = max(self._shapes.get(key, ()), shapes[split.name], key=lambda shape: (len(shape), prod(shape)))
        self._prefixes = {prefix for stack in self._modules for prefix in _ancestors(stack)}
        self._beside_encoders = _beside_encoders(self._modules)
        self._has_backbone = len({_is_backbone(stack.split(".")) for stack in self._modules if stack}) == 2
        self._says_text = any(not _said_text().isdisjoint(stack.split(".")) for stack in self._modules if stack)
        self._renamed: dict[str, str] = {}
        self._post_norm: set[str] = set()
        self._settle(names)

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
        if self._has_backbone and component in (TEXT, "vision") and _is_backbone(parts):
            component = "backbone"
        if component == TEXT and "decoder" not in parts and any(tower in self._beside_encoders for tower in _towers(parts, "encoder")):
            component = "encoder"
        if component == TEXT and self._says_text and "decoder" in parts and _said_text().isdisjoint(parts):
            component = "decoder"
        return self._renamed.get(component, component)

    def _settle(self, names: tuple[SplitName, ...]) -> None:
        """Find what only the whole tells: components without tokens but with convolutions, and those without a final norm."""
        outside = [(split, self.meaning(split)) for split in names if not split.stack]
        roles = {(meaning.component, meaning.family, meaning.role) for _, meaning in outside}
        taken = {meaning.component for _, meaning in outside} | {self._component(stack, "") for stack in self._modules if stack}
        renamed: dict[str, str] = {}
        for split, meaning in outside:
            sense = "audio" if len(self._shapes[split.stack, split.module]) == 3 or self._hears else "vision"
            tokens = (meaning.component, *TOKENS) in roles and meaning.component == TEXT
            convolves = meaning.family == "conv" and not meaning.guessed  # three axes alone may be a stack of experts
            if convolves and meaning.component in (TEXT, "encoder") and not tokens and sense not in taken:
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
            endings = _endings(rule.name)
            if endings is not None and not split.module.endswith(endings):
                continue
            found = _pattern(rule.name, rule.scope).fullmatch(split.module)
            if found is not None and self._known_prefix(found.groupdict().get("prefix")):
                return Meaning(component, rule.family, _role(rule.role, found), rule)
        shape = self._shapes[split.stack, split.module]
        general = by_words(split, shape) or by_shape(split, shape)
        return Meaning(component, general.rule.family, general.rule.role, general.rule, known=False, guessed=general.guessed)

    def _holds(self, rule: NameRule, split: SplitName, component: str) -> bool:
        """Whether a rule's conditions are met."""
        return (
            (not rule.component or rule.component == component)
            and (not rule.sibling or rule.sibling in self._modules[split.stack])
            and (not rule.models or self._model_type in rule.models)
            and (not rule.post_norm or component in self._post_norm)
            and (not rule.axes or rule.axes == len(self._shapes[split.stack, split.module]))
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


def _towers(parts: list[str], word: str) -> list[tuple[str, ...]]:
    """What stands before each `word` of a name: the towers that it is a side of."""
    return [tuple(parts[:at]) for at, part in enumerate(parts) if part == word]


def _is_backbone(parts: list[str]) -> bool:
    """Whether a part of a name says so; what that module decodes with is none."""
    return not set(BACKBONES).isdisjoint(parts) and "decoder" not in parts


def _beside_encoders(stacks: Iterable[str]) -> set[tuple[str, ...]]:
    """Towers whose encoder has a decoder or a language model beside it, and so is a component of its own."""
    names = [stack.split(".") for stack in stacks if stack]
    words = ("decoder", *_said_text())
    return {tower for parts in names if _plain_component(parts) == TEXT for word in words for tower in _towers(parts, word)}


@cache
def _said_text() -> frozenset[str]:
    """Parts of a name that say that it is the language model's."""
    return frozenset(part for rule in name_tables().components if rule.component == TEXT for part in rule.parts)


def _plain_component(parts: list[str]) -> str:
    for rule in name_tables().components:
        if not set(rule.parts).isdisjoint(parts):
            return rule.component
    return TEXT
