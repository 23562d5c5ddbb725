"""The forms that evidence can be written in, by name."""

from __future__ import annotations

from collections.abc import Callable

from modelkin.standards.cyclonedx import cyclonedx
from modelkin.standards.facts import Facts
from modelkin.standards.in_toto import in_toto
from modelkin.standards.model_card import model_card
from modelkin.standards.spdx import spdx

WRITERS: dict[str, Callable[[Facts], str]] = {"cyclonedx": cyclonedx, "spdx": spdx, "in-toto": in_toto, "model-card": model_card}
