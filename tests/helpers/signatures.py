"""Signatures of functions with their annotations as objects, those that only type checkers import among them."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable
from functools import cache
from typing import Any


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """As `inspect.signature` with `eval_str`. Raises NameError for an annotation that nothing imports."""
    function = inspect.unwrap(function)
    module = sys.modules[function.__module__]
    return inspect.signature(function, globals={**vars(module), **_checked(function.__module__)}, eval_str=True)


@cache
def _checked(name: str) -> dict[str, Any]:
    """What a module imports for type checkers alone."""
    found: dict[str, Any] = {}
    for node in ast.parse(inspect.getsource(sys.modules[name])).body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            exec(compile(ast.Module(node.body, []), name, "exec"), found)
    return found
