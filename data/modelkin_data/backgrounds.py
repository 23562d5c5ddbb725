"""How far apart the averages of unrelated models spread, by channel and family: measured, kept in backgrounds.json."""

from __future__ import annotations

import json
from functools import cache

from modelkin_data.reading import read_text


@cache
def _table() -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = json.loads(read_text("backgrounds.json"))["between_models_sd"]
    return table


def between_models(family: str, channel: str) -> float:
    """Standard deviation between pairs of strangers of a family's mean cosine, beyond what sketch noise explains."""
    row = _table()[channel]
    return row.get(family, row["default"])


def table() -> dict[str, dict[str, float]]:
    """The whole table: channel -> family -> spread. A copy of its own."""
    return {channel: dict(families) for channel, families in _table().items()}
