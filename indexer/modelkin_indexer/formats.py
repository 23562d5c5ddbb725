"""What can be read, as the registers have it: containers, forms of quantised weights, kinds of adapters."""

from __future__ import annotations

import re
import sys

from modelkin_indexer.adapters.tuners import TUNERS
from modelkin_indexer.quantised.schemes import SCHEMES, Scheme
from modelkin_indexer.sources.register import CONTAINERS, Container

END = re.compile(r":\s|\.(?:\s|$)")  # of what a scheme is called, in the first line of its description


def containers() -> tuple[Container, ...]:
    """The containers, the most faithful first."""
    return CONTAINERS


def quantised() -> tuple[str, ...]:
    """The forms of quantised weights that are decoded, in words."""
    return tuple(dict.fromkeys(map(_called, SCHEMES)))


def adapters() -> tuple[tuple[str, bool], ...]:
    """The kinds of adapters, and whether the change that they make is worked out; without prompts, which change nothing."""
    found = {tuner.words: tuner.changes is not None for tuner in TUNERS.values()}
    return tuple(sorted(found.items(), key=lambda one: (not one[1], one[0].lower())))


def _called(scheme: Scheme) -> str:
    description = " ".join((sys.modules[scheme.__module__].__doc__ or scheme.__module__).split("\n\n")[0].split())
    return END.split(description)[0]
