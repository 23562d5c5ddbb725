"""Names in other writing: Flax's and TensorFlow's, or with `_` where a dot is meant. Each name is spelt as torch would spell it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache

from modelkin_data import name_tables

KERNEL = "kernel"  # a matrix [in, out], as Flax and TensorFlow call it
KERNELS = 2  # of a file, from which it is one of theirs
LEAVES = {KERNEL: "weight", "embedding": "weight", "embeddings": "weight", "scale": "weight", "gamma": "weight", "beta": "bias"}
NUMBERED = re.compile(r"(?:^|(?<=\.))([A-Za-z_]*?(?:layers?|blocks?|h))_(?:\._)?(\d{1,5})(?=\.)")
UNDERSCORED = re.compile(r"(?:layers?|blocks?|h)_\d{1,5}_")


def spelt(names: Iterable[str]) -> dict[str, str]:
    """Name -> the name with dots; empty where names are spelt so already."""
    names = tuple(names)
    leaves = Counter(_leaf(name) for name in names)
    if leaves[KERNEL] >= KERNELS and leaves[KERNEL] > leaves["weight"]:  # torch has a few kernels among many weights
        return {name: _from_kernels(name) for name in names}
    if names and not any("." in name or "/" in name for name in names) and any(UNDERSCORED.search(name) for name in names):
        return {name: _from_underscores(name) for name in names}
    return {}


def is_kernel(name: str) -> bool:
    """Whether a name is that of a matrix [in, out]."""
    return _leaf(name) == KERNEL


def _parts(name: str) -> list[str]:
    """Of a name with slashes or dots; `:0` is the number of an output."""
    return name.partition(":")[0].strip("/").replace("/", ".").split(".")


def _leaf(name: str) -> str:
    return _parts(name)[-1]


def _from_kernels(name: str) -> str:
    *path, leaf = _parts(name)
    dotted = ".".join([*(part for part in path if part != "params"), LEAVES.get(leaf, leaf)])
    return NUMBERED.sub(r"\1.\2", dotted)


def _from_underscores(name: str) -> str:
    """The words between underscores put together to those that the tables know, the longest first."""
    words, found = name.split("_"), []
    while words:
        count = next((count for count in range(min(len(words), _longest()), 1, -1) if "_".join(words[:count]) in _known()), 1)
        found.append("_".join(words[:count]))
        words = words[count:]
    return ".".join(found)


@cache
def _known() -> frozenset[str]:
    """Parts of names with `_` in them that the tables name."""
    tables = name_tables()
    texts = [*(rule.name for rule in tables.rules), *tables.words.values(), *tables.wrappers, *tables.stacks]
    texts += [part for rule in tables.components for part in rule.parts]
    return frozenset(word for text in texts for word in re.findall(r"[A-Za-z0-9]+(?:_[A-Za-z0-9]+)+", text))


@cache
def _longest() -> int:
    return max(word.count("_") + 1 for word in _known())
