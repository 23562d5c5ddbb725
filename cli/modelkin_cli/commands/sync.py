"""`modelkin sync`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from modelkin.keys import read_key
from modelkin.registries import open_registry
from modelkin.settings import Settings
from modelkin.sources.network import hub_client
from modelkin.taking.syncing import Sync, Synced, alone
from modelkin.wishes import HowToRead
from modelkin_cli.options import FILE, settings
from modelkin_cli.output import Output
from modelkin_cli.reading_options import printing, starter_option
from modelkin_indexer.hub.wanted import Wanted
from modelkin_registry.registry import Registry

INTERRUPTED = 130


@click.command("sync", short_help="Take in new and changed models of the Hub.")
@click.argument("ids", nargs=-1, metavar="[ORG/NAME]...")
@click.option("--ids-from", type=FILE, metavar="FILE", help="Repositories to look at, one a line.")
@click.option("--author", metavar="NAME", help="Only those of this person or organisation.")
@click.option("--task", metavar="TASK", help="Only those of this task, e.g. text-generation.")
@click.option("--library", metavar="NAME", help="Only those of this library or tag, e.g. transformers.")
@click.option("--min-downloads", type=click.IntRange(0), default=0, metavar="N", help="Only those with so many downloads.")
@click.option("--max-bytes", type=click.IntRange(1), metavar="N", help="Leave out those of which more would be read.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Do so many of them at most; the others wait for the next call.")
@click.option("--relist", is_flag=True, help="List all, not only what changed since the last call, and find removed and renamed ones.")
@click.option("--retry", is_flag=True, help="Try all again that failed. Without, those whose failure may pass, up to 5 times.")
@click.option("--dry-run", is_flag=True, help="Say what would be read, with its bytes, and do nothing.")
@click.option("--journal", is_flag=True, help="Print what was done with which repository, or why not, and do nothing.")
@click.option("--workers", type=click.IntRange(1, 64), default=4, metavar="N", help="Repositories read at once. Default: 4.")
@click.option("--rate", type=click.FloatRange(0.01), default=10.0, metavar="N", help="Requests a second at most. Default: 10.")
@click.option("--level", type=click.Choice(["probe", "full"]), help="As of `modelkin add`. Default: full.")
@starter_option
@printing
@settings
def command(
    settings: Settings,
    ids: tuple[str, ...],
    ids_from: Path | None,
    author: str | None,
    task: str | None,
    library: str | None,
    min_downloads: int,
    max_bytes: int | None,
    limit: int | None,
    relist: bool,
    retry: bool,
    dry_run: bool,
    journal: bool,
    workers: int,
    rate: float,
    level: str | None,
    starter: bool,
    output: Output,
) -> None:
    """Take in the models of the Hub that are new or changed since the last call with the same filter.

    Stopped anywhere, it goes on with the next call. A repository that cannot be read is noted in the journal with the reason, and the
    others are done all the same. A removed repository's model stays, and says so; of a renamed one both names lead to it.

    \b
    Example:
      modelkin sync --author openai-community --max-bytes 2000000000
      modelkin sync --task text-generation --min-downloads 100000 --level probe --dry-run
      modelkin sync --journal
    """
    wanted = Wanted(author, task, library, min_downloads, max_bytes, (*ids, *_lines(ids_from)))
    if not (journal or wanted.ids or author or task or library or min_downloads):
        raise click.UsageError("Say which: ORG/NAME, --ids-from, --author, --task, --library or --min-downloads.")
    how = HowToRead(read_key(settings.key_file), level)
    with open_registry(settings, create=True, begin=starter, say=output.say) as registry:
        if journal:
            _print_journal(output, registry)
            return
        sync = Sync(registry, hub_client("what is new or changed", output.fail, offline=settings.offline, rate=rate), wanted, how, workers)
        if dry_run:
            _tell(output, sync.sizes(), "{bytes:,} bytes would be read")
        else:
            _run(output, sync, registry, limit, relist=relist, retry=retry)


def _lines(path: Path | None) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path else []
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{path}: {error}", param_hint="--ids-from") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _run(output: Output, sync: Sync, registry: Registry, limit: int | None, *, relist: bool, retry: bool) -> None:
    def steps() -> Iterator[Synced]:
        sync.try_again(retry)
        yield from sync.look(everything=relist)
        yield from sync.work(limit)

    try:
        with alone(registry.store.path):
            _tell(output, steps(), "{bytes:,} bytes read")
    except KeyboardInterrupt:
        output.fail("Interrupted; the next call goes on.")
        click.get_current_context().exit(INTERRUPTED)
    finally:
        registry.refresh()


def _tell(output: Output, found: Iterator[Synced], about_bytes: str) -> None:
    counts: Counter[str] = Counter()
    size = 0
    for one in found:
        counts[one.status] += 1
        size += one.bytes
        output.line(one, one.repo, _words(one))
    told = ", ".join(f"{number} {status}" for status, number in sorted(counts.items())) or "nothing new"
    output.say(f"{told}; {about_bytes.format(bytes=size)}.")


def _words(one: Synced) -> str:
    return f"{one.status:10}{one.repo}" + (f": {one.reason}" if one.reason else f", {one.bytes:,} bytes, {one.seconds:.1f} s")


def _print_journal(output: Output, registry: Registry) -> None:
    line: Callable[[dict[str, object]], str] = lambda entry: f"{entry['state']:10}{entry['repo']}: {entry['noted']} {entry['reason']}"  # noqa: E731
    for entry in registry.store.hub.entries():
        output.line({"contract": 1, **entry}, str(entry["repo"]), line(entry).rstrip())
