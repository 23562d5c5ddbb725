"""The policy that a batch of submissions is screened by where none is given."""

from __future__ import annotations

from modelkin_data.reading import read_text

NAME = "policy.toml"


def default_policy() -> str:
    """Its text, in TOML."""
    return read_text(NAME)
