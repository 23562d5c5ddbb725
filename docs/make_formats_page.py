"""Write docs/formats.md from the registers: `python docs/make_formats_page.py`. A test holds that the page is current."""

from __future__ import annotations

from pathlib import Path

import modelkin

PAGE = Path(__file__).parent / "formats.md"
HEAD = """# What can be read

Made from the registers by `python docs/make_formats_page.py`; `modelkin formats` prints the same. How each is read is in
[method/formats.md](method/formats.md), how files of other packages' containers are added in [python.md](python.md).

At level probe only the rows that are looked at are read, on the Hub by ranges (headers and files up to 1 MB whole); at level full every
byte once. Nothing of a file is ever run.
"""


def page() -> str:
    """The whole page."""
    found = modelkin.formats().formats
    files = [one for one in found if one.kind == "container"]
    rows = [f"| {one.name} | {' '.join(f'`{suffix}`' for suffix in one.suffixes)} | {one.probe} | {one.extra} |" for one in files]
    weights = [f"- {one.name}" for one in found if one.kind == "quantised"]
    adapters = [one for one in found if one.kind == "adapter"]
    worked, known = (", ".join(one.name for one in adapters if one.read == read) for read in (True, False))
    return "\n".join(
        [
            HEAD,
            "## Containers\n",
            "| container | suffixes | read at level probe | extra |",
            "|---|---|---|---|",
            *rows,
            "\n## Quantised weights\n",
            *weights,
            "\n## Adapters\n",
            f"The change that they make is worked out: {worked}.\n",
            f"Known by name, and told: {known}.\n",
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
