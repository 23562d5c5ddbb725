"""Tables of what can be read."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from modelkin_cli.pages.sheets import new_table
from modelkin_registry.answers.upkeep import Format


def format_tables(formats: Sequence[Format]) -> list[Table]:
    """A table a kind: containers, forms of quantised weights, adapters."""
    files = new_table("container", "suffixes", "read at level probe", "extra")
    weights, adapters = new_table("quantised weights"), new_table("adapters", "change worked out")
    for one in formats:
        if one.kind == "container":
            files.add_row(one.name, " ".join(one.suffixes), one.probe, one.extra)
        elif one.kind == "quantised":
            weights.add_row(one.name)
        else:
            adapters.add_row(one.name, "yes" if one.read else "no: known by name")
    return [files, weights, adapters]
