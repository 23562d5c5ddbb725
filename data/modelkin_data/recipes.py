"""Recipes: which repositories of the Hub make a registry. Their form is that of `modelkin.taking.recipes`."""

from __future__ import annotations

from importlib.resources import files

RECIPES = ("bases",)


def shipped_recipe(name: str) -> str:
    """The text of one of `RECIPES`."""
    return files("modelkin_data").joinpath(f"{name}.recipe").read_text(encoding="utf-8")
