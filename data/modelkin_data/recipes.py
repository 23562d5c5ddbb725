"""Recipes: which repositories of the Hub make a registry. Their form is that of `modelkin.taking.recipes`."""

from __future__ import annotations

from modelkin_data.reading import read_text

RECIPES = ("bases",)


def shipped_recipe(name: str) -> str:
    """The text of one of `RECIPES`."""
    return read_text(f"{name}.recipe")
