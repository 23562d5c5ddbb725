"""`modelkin work`."""

from __future__ import annotations

from typing import Any

import click

import modelkin
from modelkin_cli.commands.sync import sum_of, words_of
from modelkin_cli.options import calling
from modelkin_cli.output import Output
from modelkin_cli.reading_options import printing


@click.command("work", short_help="Take in what waits in a registry's queue.")
@click.option("--jobs", type=click.IntRange(1, 64), default=1, metavar="N", help="Processes, each with one repository. Default: 1.")
@click.option("--ray", metavar="ADDRESS", help="Begin these on this Ray cluster: `auto`, or its head's HOST:PORT.")
@click.option("--rate", type=click.FloatRange(0.01), default=10.0, metavar="N", help="Requests a second, of all of them. Default: 10.")
@click.option("--lease", type=click.FloatRange(1), default=120.0, metavar="S", help="Seconds after which a silent one's job is another's.")
@click.option("--max-bytes", type=click.IntRange(1), metavar="N", help="Set aside those of which more would be read.")
@click.option("--keep-free", type=click.IntRange(0), default=1 << 30, metavar="N", help="Bytes of disk to leave free. Default: 1 GiB.")
@click.option("--memory", type=click.IntRange(1 << 28), metavar="N", help="Bytes of data that a process may have at most.")
@click.option("--stay", is_flag=True, help="When the queue is empty wait for more, until interrupted.")
@click.option("--strict", is_flag=True, help="Refuse models with damaged tensors, as of `modelkin add`.")
@printing
@calling
def command(output: Output, call: dict[str, Any], **wishes: Any) -> None:
    """Take in the repositories of the Hub that wait in the queue of the registry, which `modelkin sync --enqueue` fills.

    Any number of these may work on one registry, on any machine that reaches it. Each has a job on loan and lets itself be heard; of one
    that falls silent another takes the job, and each job is stored once. What fails in a way that may pass is tried again up to 5 times, a
    while later each time. What fails otherwise, or kills three workers, is set aside with its reason (`modelkin sync --journal`;
    `modelkin sync --retry` puts it back). Ctrl-C gives back what is held. --ray needs the extra: pip install 'modelkin[ray]'.

    \b
    Example:
      modelkin sync --author openai-community --enqueue
      modelkin work --jobs 2
      modelkin work --registry postgresql://our-server/models --jobs 4 --stay
      modelkin work --registry postgresql://our-server/models --ray auto --jobs 64
    """
    try:
        with output.listening() as listener:
            answer = modelkin.work(each=lambda one: output.line(one, one.repo, words_of(one)), listener=listener, **call, **wishes)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("Interrupted; what was held is given back to the queue.") from None
    output.say(sum_of(answer, "read"))
