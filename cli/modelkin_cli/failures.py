"""What an error looks like to the person or script that asked: one line on stderr, the contract's object on stdout, an exit code."""

from __future__ import annotations

import json
import traceback
from collections.abc import Sequence

import click
from msgspec import Struct

from modelkin.errors import Failure, Problem, problem_of
from modelkin_cli.pages.text import printable

USAGE, INTERRUPTED = 2, 130


class Teller(Struct, frozen=True):
    """How this call tells of errors, by the options that stand on its command line, whether or not they could be parsed."""

    as_json: bool
    debug: bool

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Teller:
        options = arguments[: arguments.index("--")] if "--" in arguments else arguments
        return cls("--json" in options, "--debug" in options)

    def usage(self, error: click.ClickException) -> int:
        """A call that cannot be understood."""
        error.show()
        self._tell(Problem(error.exit_code, "UsageError", error.format_message()))
        return error.exit_code

    def error(self, error: BaseException) -> int:
        """Anything else that went wrong."""
        problem = problem_of(error)
        if self.debug:
            click.echo("".join(traceback.format_exception(error)).rstrip(), err=True)
        click.echo(f"error: {printable(str(problem))}", err=True)
        self._tell(problem)
        return problem.code

    def interrupted(self, error: BaseException) -> int:
        """Ctrl-C. A verb may have said in the error what is done and stays."""
        words = str(error) if isinstance(error, KeyboardInterrupt) and str(error) else "Interrupted."
        click.echo(words, err=True)
        self._tell(Problem(INTERRUPTED, "Interrupted", words))
        return INTERRUPTED

    def _tell(self, problem: Problem) -> None:
        if self.as_json:
            click.echo(json.dumps(Failure(problem).to_dict()))
