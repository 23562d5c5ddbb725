"""Stacks of layers that no table names: numbered parts of names below which the same structure comes again.

`encoder.layers.0.blocks.1.attention.query.weight` is layer 1 of the stack `encoder.layers.0.blocks` if its blocks resemble each other, and
`body.3.conv.weight` with `body.3.norm.weight` is layer 3 of `body`. What stands beside inner stacks (a stage's downsampling) is no layer.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from modelkin_indexer.anatomy.splits import MAX_DIGITS, SplitName, split_at

LEAST_MODULES = 2  # modules that a layer has at least: numbered linear layers of one MLP are no stack
Position = tuple[str, int, str]  # what stands before a number in a name, the number, and what follows


def find_stacks(splits: Sequence[SplitName], unknown: set[str]) -> list[SplitName]:
    """The same names, split at the stacks that names in `unknown` show."""
    stacks = _repeated(split for split in splits if split.name in unknown)
    found = [_inner(split, stacks) if split.name in unknown else split for split in splits]
    emptied = _outer_stacks(found)
    return [_outside(split) if split.stack in emptied else split for split in found]


def _repeated(splits: Iterable[SplitName]) -> set[str]:
    """Prefixes, their numbers left out, below which two numbers have the same modules.

    Where no numbers of one prefix resemble each other, these are the parts of a layer (0 attention, 1 MLP), the same in all layers.
    """
    modules: dict[str, dict[tuple[str, int], set[str]]] = defaultdict(lambda: defaultdict(set))
    for split in splits:
        for prefix, number, rest in _positions(split):
            modules[_generic(prefix)][prefix, number].add(rest.rpartition(".")[0])
    found = set()
    for prefix, layers in modules.items():
        structures = Counter((front, frozenset(inside)) for (front, _), inside in layers.items() if len(inside) >= LEAST_MODULES)
        anywhere = Counter(inside for _, inside in structures.elements())
        single = all(number == 0 for _, number in layers)
        if any(times > 1 for times in (anywhere if single else structures).values()):
            found.add(prefix)
    return found


def _positions(split: SplitName) -> list[Position]:
    """Every number in a name that may be a layer's: those of experts are not, nor is the last part."""
    if split.expert is not None:
        return []
    parts = split.full.split(".")
    start = 0 if not split.stack else split.stack.count(".") + 2
    return [
        (".".join(parts[:at]), int(parts[at]), ".".join(parts[at + 1 :]))
        for at in range(max(start, 1), len(parts) - 1)
        if parts[at].isdecimal() and len(parts[at]) <= MAX_DIGITS
    ]


def _generic(prefix: str) -> str:
    return ".".join("#" if part.isdecimal() else part for part in prefix.split("."))


def _inner(split: SplitName, stacks: set[str]) -> SplitName:
    """The name split at its innermost stack, if it has one."""
    for prefix, number, rest in reversed(_positions(split)):
        if _generic(prefix) in stacks:
            return split_at(split.name, prefix, number, rest)
    return split


def _outer_stacks(splits: Sequence[SplitName]) -> set[str]:
    """Stacks most of whose tensors belong to stacks inside them."""
    inside: Counter[str] = Counter()
    for split in splits:
        parts = split.stack.split(".")
        inside.update({".".join(parts[:at]) for at in range(1, len(parts)) if parts[at].isdecimal()})
    own = Counter(split.stack for split in splits)
    return {stack for stack, count in own.items() if stack and inside[stack] > count}


def _outside(split: SplitName) -> SplitName:
    return split_at(split.name, "", None, split.full)
