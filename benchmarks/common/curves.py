"""Curves in one small SVG, without a library: enough for figures in results/."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from msgspec import Struct

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 640, 360, 64, 32, 170, 48
COLOURS = ("#1b6ca8", "#c4511a", "#2e8540", "#7a3e9d", "#8a6d00", "#b3245f", "#0f7b7b", "#555555")


class Curve(Struct, frozen=True):
    """One named line through points (xs, ys)."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    dashed: bool = False


def chart(
    curves: Sequence[Curve],
    title: str,
    x_name: str,
    y_name: str,
    *,
    log: tuple[bool, bool] = (False, False),
    y: tuple[float, float] = (0.0, 1.0),
) -> str:
    """An SVG of the curves, with axes of equal or of logarithmic steps; what lies outside `y` is drawn on the edge."""
    xs = [x for curve in curves for x in curve.xs if x > 0 or not log[0]]
    across = _Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT, log[0])
    up = _Axis(*y, HEIGHT - BOTTOM, TOP, log[1])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/><text x="{LEFT}" y="20" font-weight="bold">{escape(title)}</text>',
    ]
    for value in across.ticks():
        at = across.at(value)
        parts.append(f'<line x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{value:g}</text>')
    for value in up.ticks():
        at = up.at(value)
        parts.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_name)}</text>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">{escape(y_name)}</text>')
    for number, curve in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        dash = ' stroke-dasharray="5 4"' if curve.dashed else ""
        points = " ".join(f"{across.at(x):.1f},{up.at(v):.1f}" for x, v in zip(curve.xs, curve.ys, strict=True) if x > 0 or not log[0])
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"{dash}/>')
        row = TOP + 12 + 17 * number
        parts.append(f'<line x1="{WIDTH - RIGHT + 10}" y1="{row - 4}" x2="{WIDTH - RIGHT + 30}" y2="{row - 4}" stroke="{colour}"{dash}/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 36}" y="{row}">{escape(curve.name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Axis(Struct, frozen=True):
    low: float
    high: float
    start: float
    end: float
    log: bool

    def at(self, value: float) -> float:
        low, high, value = (self._scaled(v) for v in (self.low, self.high, min(max(value, self.low), self.high)))
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self) -> list[float]:
        if self.log:
            return [10.0**k for k in range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)]
        return [self.low + (self.high - self.low) * k / 5 for k in range(6)]
