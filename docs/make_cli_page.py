"""Write docs/cli.md from the help texts: `python docs/make_cli_page.py`. A test holds that the page is current."""

from __future__ import annotations

from pathlib import Path

import click

from modelkin_cli.main import VERBS, cli

PAGE = Path(__file__).parent / "cli.md"
WIDTH = 100
HEAD = "# The command line\n\nMade from the help texts by `python docs/make_cli_page.py`.\n"


def page() -> str:
    """The whole page."""
    top = click.Context(cli, info_name="modelkin", terminal_width=WIDTH, help_option_names=["-h", "--help"])
    sections = [HEAD, section("modelkin", top)]
    for verb in VERBS:
        command = cli.get_command(top, verb)
        assert command is not None, verb
        context = click.Context(command, info_name=verb, parent=top, terminal_width=WIDTH)
        sections.append(section(f"modelkin {verb}", context))
        for name, one in command.commands.items() if isinstance(command, click.Group) else ():
            sections.append(section(f"modelkin {verb} {name}", click.Context(one, info_name=name, parent=context, terminal_width=WIDTH)))
    return "\n".join(sections)


def section(title: str, context: click.Context) -> str:
    """One command's heading and help text."""
    return f"## {title}\n\n```text\n{context.get_help()}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
