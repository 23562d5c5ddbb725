"""What a page can be: light, because options of the command line name it."""

from __future__ import annotations

LANGUAGES = ("en", "ko")  # each with a table in modelkin_data/texts
SUFFIXES = (".html", ".md", ".pdf")
