"""`modelkin sync`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click

import modelkin
from modelkin_cli.options import FILE, calling
from modelkin_cli.output import Output
from modelkin_cli.reading_options import printing, starter_option
from modelkin_registry.answers.shared import Synced, Syncing

FILTERS = ("recipe", "author", "task", "library", "min_downloads")  # one of them says which repositories are wanted


@click.command("sync", short_help="Take in new and changed models of the Hub.")
@click.argument("ids", nargs=-1, metavar="[ORG/NAME]...")
@click.option("--ids-from", type=FILE, metavar="FILE", help="Repositories to look at, one a line.")
@click.option("--recipe", metavar="NAME|FILE", help="Those of a list, each at its level and revision: bases, or a file of yours.")
@click.option("--pin", type=FILE, metavar="FILE", help="Write the recipe there with the Hub's commits and bytes of now, and do nothing.")
@click.option("--author", metavar="NAME", help="Only those of this person or organisation.")
@click.option("--task", metavar="TASK", help="Only those of this task, e.g. text-generation.")
@click.option("--library", metavar="NAME", help="Only those of this library or tag, e.g. transformers.")
@click.option("--min-downloads", type=click.IntRange(0), default=0, metavar="N", help="Only those with so many downloads.")
@click.option("--max-bytes", type=click.IntRange(1), metavar="N", help="Leave out those of which more would be read.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Do so many of them at most; the others wait for the next call.")
@click.option("--relist", is_flag=True, help="List all, not only what changed since the last call, and find removed and renamed ones.")
@click.option("--retry", is_flag=True, help="Try all again that failed. Without, those whose failure may pass, up to 5 times.")
@click.option("--enqueue", is_flag=True, help="Only put them into the queue, for `modelkin work` on this or other machines.")
@click.option("--dry-run", is_flag=True, help="Say what would be read, with its bytes, and do nothing.")
@click.option("--journal", is_flag=True, help="Print what was done with which repository, or why not, and do nothing.")
@click.option("--workers", type=click.IntRange(1, 64), default=4, metavar="N", help="Repositories read at once. Default: 4.")
@click.option("--rate", type=click.FloatRange(0.01), default=10.0, metavar="N", help="Requests a second at most. Default: 10.")
@click.option("--level", type=click.Choice(["probe", "full"]), help="As of `modelkin add`. Default: full.")
@click.option("--strict", is_flag=True, help="Refuse models with damaged tensors, as of `modelkin add`.")
@starter_option
@printing
@calling
def command(
    ids: tuple[str, ...],
    ids_from: Path | None,
    journal: bool,
    output: Output,
    call: dict[str, Any],
    **wishes: Any,
) -> None:
    """Take in the models of the Hub that are new or changed since the last call with the same filter.

    Stopped anywhere, it goes on with the next call. A repository that cannot be read is noted in the journal with the reason, and the
    others are done all the same. A removed repository's model stays, and says so; of a renamed one both names lead to it.

    \b
    Example:
      modelkin sync --author openai-community --max-bytes 2000000000
      modelkin sync --task text-generation --min-downloads 100000 --level probe --dry-run
      modelkin sync --author openai-community --enqueue
      modelkin sync --recipe bases --dry-run
      modelkin sync --journal
    """
    wanted = (*ids, *_lines(ids_from))
    if journal:
        _print_journal(output, call)
        return
    if not (wanted or any(wishes[name] for name in FILTERS)):
        raise click.UsageError("Say which: ORG/NAME, --ids-from, --recipe, --author, --task, --library or --min-downloads.")
    _require_one_list(wanted, wishes)
    try:
        with output.listening() as listener:
            answer = modelkin.sync(*wanted, each=lambda one: output.line(one, one.repo, words_of(one)), listener=listener, **call, **wishes)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("Interrupted; the next call goes on.") from None
    output.say(sum_of(answer, "would be read" if wishes["dry_run"] or wishes["pin"] else "read"))


def _require_one_list(ids: tuple[str, ...], wishes: dict[str, Any]) -> None:
    """A recipe is the whole list, and --pin is of one."""
    beside = [f"--{name.replace('_', '-')}" for name in (*FILTERS[1:], "relist") if wishes[name]]
    if wishes["recipe"] and (ids or beside):
        raise click.UsageError(f"--recipe says which: leave {', '.join(beside) or 'the repositories'} out with it.")
    if wishes["pin"] and not wishes["recipe"]:
        raise click.UsageError("--pin writes a recipe: say which, with --recipe.")
    if wishes["pin"] and any(wishes[name] for name in ("limit", "max_bytes", "retry", "enqueue", "dry_run")):
        raise click.UsageError(
            "--pin takes the whole recipe and reads none: leave out --limit, --max-bytes, --retry, --enqueue, --dry-run out."
        )


def _lines(path: Path | None) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path else []
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{path}: {error}", param_hint="--ids-from") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def sum_of(answer: Syncing, read: str) -> str:
    """What came of all repositories of a call, in one line."""
    counts = Counter(one.status for one in answer.results)
    told = ", ".join(f"{number} {status}" for status, number in sorted(counts.items())) or "nothing new"
    return f"{told}; {answer.bytes:,} bytes {read}."


def words_of(one: Synced) -> str:
    """What came of one of them."""
    return f"{one.status:10}{one.repo}" + (f": {one.reason}" if one.reason else f", {one.bytes:,} bytes, {one.seconds:.1f} s")


def _print_journal(output: Output, call: dict[str, Any]) -> None:
    for entry in modelkin.journal(**call).entries:
        output.line(entry, entry.repo, f"{entry.state:10}{entry.repo}: {entry.noted} {entry.reason}".rstrip())
