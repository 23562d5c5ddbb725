"""The policy that a batch of submissions is screened by where none is given."""

from __future__ import annotations

from importlib.resources import files

NAME = "policy.toml"


def default_policy() -> str:
    """Its text, in TOML."""
    return files("modelkin_data").joinpath(NAME).read_text(encoding="utf-8")
