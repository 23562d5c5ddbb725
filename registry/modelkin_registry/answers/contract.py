"""The JSON contract: its number, and a result as JSON can hold it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

CONTRACT = 1  # of the JSON: fields may be added within it, never renamed or dropped


def to_plain(value: Any) -> Any:
    """A result as JSON can hold it: objects by field ("contract" first), lists, and null for what is no finite number.

    A field whose name is a word of Python's has an underscore after it there, and none here (`from_`).
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = {field.name.rstrip("_"): to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"contract": found.pop("contract"), **found} if "contract" in found else found
    if isinstance(value, Mapping):
        return {str(name): to_plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if hasattr(value, "item"):  # a number of numpy's
        return to_plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
