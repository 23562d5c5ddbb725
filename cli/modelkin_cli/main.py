"""The command `modelkin`: its verbs, loaded when they are asked for, and what an error looks like to the person who typed."""

from __future__ import annotations

import importlib
import keyword
import os
import sys
from typing import Any

import click

from modelkin_cli.options import group_options
from modelkin_cli.pages.text import printable
from modelkin_indexer.errors import ModelkinError

# Each verb is the module of that name in commands/; the words are its short help, here so that `--help` need not import it.
VERBS = {
    "add": "Index models and keep their fingerprints.",
    "query": "Find the nearest relatives of a model.",
    "compare": "Hold two models against each other.",
    "tree": "Draw registered models as family trees.",
    "trajectory": "Examine checkpoints said to lead from scratch to a model.",
    "decompose": "Take a merge apart: its parents, and in what proportion.",
    "sync": "Take in new and changed models of the Hub.",
    "list": "List the registered models.",
    "show": "Show everything known of a registered model.",
    "rename": "Give a registered model another name.",
    "remove": "Forget registered models.",
    "fingerprint": "Write a model's fingerprint to a file.",
    "export": "Write a registry into one file, to share it.",
    "import": "Take in the models of such a file.",
    "push": "Share a registry as a dataset on the Hub.",
    "pull": "Take in a registry that is shared there.",
    "calibrate": "Measure what strangers in this registry look like.",
    "doctor": "Check a registry and mend what is derived.",
}
INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it (128 + SIGINT)
PIPE_CLOSED = 141  # exit code when the reader of our output went away (128 + SIGPIPE)


class Failure(click.ClickException):
    """A known error as people see it: one line, and the exit code of its kind."""

    def show(self, file: Any = None) -> None:
        click.echo(f"error: {self.message}", file=file, err=True)


def failure(error: Exception, exit_code: int) -> Failure:
    """The error to show for a known one."""
    shown = Failure(printable(str(error)))
    shown.exit_code = exit_code  # type: ignore[misc]  # click's own way of saying it
    return shown


class Verbs(click.Group):
    """A group that imports a verb's module when the verb is called, and maps what goes wrong to messages and exit codes."""

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

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except ModelkinError as error:
            raise failure(error, error.exit_code) from error
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush at exit is silent too
            ctx.exit(PIPE_CLOSED)
        except OSError as error:
            raise failure(error, ModelkinError.exit_code) from error
        except (KeyboardInterrupt, click.Abort):
            click.echo("Interrupted.", err=True)
            ctx.exit(INTERRUPTED)


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

    SOURCE is a local file of weights (safetensors, PyTorch, GGUF, ONNX, NumPy) or a folder with one model, or a Hub id (org/name).

    \b
    Example:
      modelkin add models/llama models/qwen
      modelkin query models/mystery

    Exit codes: 0 done, 1 --fail-on was violated, 2 usage, 3 input unreadable, 4 registry trouble.
    """


def main() -> int:
    """Run the command line. Returns the exit code."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the indexer has its own threads; products here are too small to share out
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show must not stop an answer
    return int(cli.main(prog_name="modelkin", standalone_mode=True) or 0)
