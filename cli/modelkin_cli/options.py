"""Settings of a whole call. Light, because `--help` needs it; options that read or print are in asking.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from modelkin.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])
FILE = click.Path(path_type=Path)


def _remember(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    if value is not None and parameter.name is not None:
        setattr(ctx.ensure_object(Settings), parameter.name, value)


def _setting(name: str, envvar: str | None, text: str, hidden: bool) -> Callable[[Command], Command]:
    about: dict[str, Any] = {"envvar": envvar, "show_envvar": envvar is not None, "hidden": hidden}
    return click.option(name, type=FILE, metavar="PATH", expose_value=False, callback=_remember, help=text, **about)


def group_options(command: Command) -> Command:
    """`--registry` and `--key-file` of the group."""
    command = _setting("--key-file", "MODELKIN_KEY_FILE", "File with a private key: 32 bytes, or 64 hex digits.", False)(command)
    where = "The registry's file. Default: registry.db in your user data folder."
    return _setting("--registry", "MODELKIN_REGISTRY", where, False)(command)


def settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same after a verb, where people type them too; the verb gets them as its first argument."""
    command = _setting("--key-file", None, "", True)(command)
    command = _setting("--registry", None, "", True)(command)
    return click.make_pass_decorator(Settings, ensure=True)(command)
