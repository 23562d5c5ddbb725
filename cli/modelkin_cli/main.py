"""The command `modelkin`: its verbs, loaded when they are asked for, and what an error looks like to the person who typed."""

from __future__ import annotations

import importlib
import keyword
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import click

from modelkin_cli.failures import Teller
from modelkin_cli.options import TYPED, group_options

# Each verb is the module of that name in commands/; the words are its short help, here so that `--help` need not import it.
VERBS = {
    "add": "Index models and keep their fingerprints.",
    "query": "Find the nearest relatives of a model.",
    "compare": "Hold two models against each other.",
    "tree": "Draw registered models as family trees.",
    "trajectory": "Examine checkpoints said to lead from scratch to a model.",
    "decompose": "Take a merge apart: its parents, and in what proportion.",
    "evidence": "Write a comparison into a file that others can check.",
    "verify": "Check such a file: make every number of it again.",
    "audit": "Tell what in a file is unusual for a model of its kind.",
    "screen": "Screen a batch of submissions by a policy.",
    "serve": "Show a registry in a browser, and answer as JSON.",
    "sync": "Take in new and changed models of the Hub.",
    "work": "Take in what waits in a registry's queue.",
    "list": "List the registered models.",
    "show": "Show everything known of a registered model.",
    "rename": "Give a registered model another name.",
    "tag": "Give registered models tags, or take them away.",
    "note": "Put a note on a registered model.",
    "remove": "Forget registered models.",
    "fingerprint": "Write a model's fingerprint to a file.",
    "export": "Write a registry into one file, to share it.",
    "import": "Take in the models of such a file.",
    "push": "Share a registry as a dataset on the Hub.",
    "pull": "Take in a registry that is shared there.",
    "calibrate": "Measure what strangers in this registry look like.",
    "upgrade": "Make fingerprints of an older spec anew.",
    "registry": "Make an empty registry, copy one, back it up.",
    "key": "Make, show or rotate a private key.",
    "refresh": "Read a registry's models again under another key.",
    "formats": "List what can be read, and how.",
    "doctor": "Check a registry and mend what is derived.",
}
PIPE_CLOSED = 141  # exit code when the reader of our output went away (128 + SIGPIPE)


class Verbs(click.Group):
    """A group that imports a verb's module when the verb is called, and tells every error in one place."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = cmd_name + "_" * keyword.iskeyword(cmd_name)
        command: click.Command = importlib.import_module(f"modelkin_cli.commands.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def make_context(self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any) -> click.Context:
        """As click's, with what was typed kept for those who shall be able to type it again (reporting.py)."""
        typed = tuple(args)
        found = super().make_context(info_name, args, parent, **extra)
        found.meta[TYPED] = typed
        return found

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except (Exception, KeyboardInterrupt) as error:  # some of which click would turn into others: EOFError is Ctrl-D to it
            raise _Raised(error) from error

    def main(self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **more: Any) -> Any:  # type: ignore[override]
        """As click's (whose overloads mypy cannot match), but every error ends here: told in the form asked for, with its exit code."""
        given = list(sys.argv[1:] if args is None else args)
        code = _told(Teller.of(given), lambda: click.Group.main(self, given, standalone_mode=False, **more))
        return sys.exit(code) if standalone_mode else code


class _Raised(Exception):
    """An error of a verb on its way through click."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


def _told(teller: Teller, call: Callable[[], Any]) -> int:
    """The exit code of a call, whatever comes of it."""
    signals = _Interrupts()
    try:
        with signals:
            code = int(call() or 0)
            sys.stdout.flush()
            return code
    except click.ClickException as error:
        return teller.usage(error)
    except (Exception, KeyboardInterrupt) as raised:
        found = raised.error if isinstance(raised, _Raised) else raised
    if isinstance(found, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush at exit is silent too
        return PIPE_CLOSED
    if signals.came or isinstance(found, (KeyboardInterrupt, click.Abort)):
        return teller.interrupted(found)
    return teller.error(found)


class _Interrupts:
    """Notes Ctrl-C: compiled modules that are being imported turn its exception into an ImportError."""

    def __init__(self) -> None:
        self.came = False

    def __enter__(self) -> None:
        self._before = signal.getsignal(signal.SIGINT)
        if self._before is signal.default_int_handler and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._note)

    def __exit__(self, *_: object) -> None:
        if signal.getsignal(signal.SIGINT) == self._note:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        signal.default_int_handler(number, frame)


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version  # a tenth of a second that only this option needs

        try:
            click.echo(f"modelkin {version('modelkin')}")
        except PackageNotFoundError:
            click.echo("modelkin, run from its source folder (not installed)")
        ctx.exit()


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@group_options
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version and exit.")
def cli() -> None:
    """What is this model closest to, in which of its parts, and how sure can we be?

    SOURCE is a local file of weights, a folder with one model, or a Hub id (org/name). The help of `add` and of other verbs that read
    models names the kinds of file.

    \b
    Example:
      modelkin add models/llama models/qwen
      modelkin query models/mystery

    Exit codes: 0 done, 1 --fail-on was violated, 2 usage, 3 input unreadable, 4 registry trouble, 5 a fault of modelkin, 130 interrupted.
    """


def main() -> int:
    """Run the command line. Returns the exit code."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the indexer has its own threads; products here are too small to share out
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show must not stop an answer
    return int(cli.main(prog_name="modelkin", standalone_mode=True) or 0)
