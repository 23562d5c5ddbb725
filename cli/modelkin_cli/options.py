"""Settings of a whole call. Light, because `--help` needs it; options that read or print are in reading_options.py."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from modelkin.settings import Settings
from modelkin_registry.store.address import Place, place_of

Command = TypeVar("Command", bound=Callable[..., Any])
FILE = click.Path(path_type=Path)
TYPED = "modelkin.typed"  # under this name a context keeps what was typed behind `modelkin`
REGISTRY = (
    "The registry: a file, or postgresql://host/database. Default: registry.db in your user data folder. Questions take several, and ask "
    "them as one."
)
KEY_FILE = "File with a private key: 32 bytes, or 64 hex digits. `query` takes several, and asks under each."
OFFLINE = "Ask nothing of the Hub, whatever SOURCE looks like. MODELKIN_OFFLINE=1 and HF_HUB_OFFLINE=1 do the same."
DEBUG = "Where something unexpected goes wrong, print the whole traceback."


class PlaceType(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # a generic in later versions of click
    """A registry: its file, or its address. Of the environment one is taken: there is no mark that is in no address and no path."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        return place_of(value)

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        return [rv] if rv else []


PLACE = PlaceType()


def _remember(ctx: click.Context, parameter: click.Parameter, value: Path | tuple[Path, ...] | bool | None) -> None:
    if value and parameter.name is not None:
        setattr(ctx.ensure_object(Settings), parameter.name, value)


def _remember_registries(ctx: click.Context, parameter: click.Parameter, value: tuple[Place, ...]) -> None:
    if value:
        settings = ctx.ensure_object(Settings)
        settings.registry, settings.others = value[0], value[1:]


def _path(
    name: str, envvar: str | None, text: str, hidden: bool, *, kind: Any = FILE, remember: Callable[..., None] = _remember
) -> Callable[[Command], Command]:
    about: dict[str, Any] = {"envvar": envvar, "show_envvar": envvar is not None, "hidden": hidden, "multiple": True}
    return click.option(name, type=kind, metavar="PATH", expose_value=False, callback=remember, help=text, **about)


def _flag(name: str, text: str, hidden: bool) -> Callable[[Command], Command]:
    return click.option(name, is_flag=True, expose_value=False, callback=_remember, help=text, hidden=hidden)


def group_options(command: Command) -> Command:
    """`--registry`, `--key-file`, `--offline` and `--debug` of the group."""
    return _all(command, "MODELKIN_REGISTRY", "MODELKIN_KEY_FILE", hidden=False)


def calling(callback: Callable[..., Any]) -> Callable[..., Any]:
    """The same after a verb, where people type them too; the verb gets them, with how sources are read, as `call`: what modelkin takes."""

    @functools.wraps(callback)
    def with_call(*arguments: Any, reading: dict[str, Any] | None = None, **options: Any) -> Any:
        said = click.get_current_context().ensure_object(Settings)
        call = {
            "registry": [said.registry, *said.others] if said.others else said.registry,
            "key_file": said.key_file,
            "offline": said.offline,
            **(reading or {}),
        }
        return callback(*arguments, call=call, **options)

    return _all(with_call, None, None, hidden=True)


def _all(command: Command, registry: str | None, key_file: str | None, hidden: bool) -> Command:
    command = _flag("--debug", DEBUG, hidden)(command)  # read by failures.py: an error may come before options are parsed
    command = _flag("--offline", OFFLINE, hidden)(command)
    command = _path("--key-file", key_file, KEY_FILE, hidden)(command)
    return _path("--registry", registry, REGISTRY, hidden, kind=PLACE, remember=_remember_registries)(command)
