"""`--fail-on`: relations that make a call end with exit code 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from modelkin_registry.answers.evidence import ComponentEvidence
from modelkin_registry.answers.parts import VERDICTS
from modelkin_registry.answers.relations import COPIES, DESCENT_FREE, RELATIONS

VIOLATED = 1
DESCENT = "descent"  # stands for every relation of descent
Command = TypeVar("Command", bound=Callable[..., Any])


def fail_on_option(command: Command) -> Command:
    """`--fail-on RELATION`, as often as wanted."""
    words = "End with exit code 1 if this relation or verdict, or `descent` for any relation of descent, is in the answer. May be repeated."
    return click.option("--fail-on", multiple=True, type=click.Choice([DESCENT, *VERDICTS, *RELATIONS]), metavar="RELATION", help=words)(
        command
    )


def violations(fail_on: Sequence[str], relation: str, also: Sequence[str], components: Sequence[ComponentEvidence]) -> list[str]:
    """Which of the unwanted relations hold for a model or one of its components."""
    parts = [c.relation for c in components if c.relation not in DESCENT_FREE | COPIES]
    held = [relation, *also, *parts]  # a component that is a copy does not make the whole one
    is_descent = any(name not in DESCENT_FREE for name in held)
    return [name for name in dict.fromkeys(held) if name in fail_on or (DESCENT in fail_on and is_descent and name not in DESCENT_FREE)]
