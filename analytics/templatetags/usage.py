"""Small drawings and spellings that only usage pages need."""

from __future__ import annotations

from collections.abc import Sequence

from django import template

register = template.Library()

WIDTH, HEIGHT = 120, 28


@register.simple_tag
def spark_points(values: Sequence[float | None]) -> str:
    """The points of a sparkline in a 120 × 28 box; a bucket without a number is left out."""
    known = [(at, value) for at, value in enumerate(values) if value is not None]
    if len(known) < 2:
        return ""
    low, high = min(value for _, value in known), max(value for _, value in known)
    last, height = max(len(values) - 1, 1), (high - low) or 1
    return " ".join(
        f"{at * WIDTH / last:.1f},{HEIGHT - 2 - (value - low) / height * (HEIGHT - 4):.1f}" for at, value in known
    )


@register.filter
def milliseconds(microseconds: int) -> str:
    """A latency as a person reads it."""
    value = microseconds / 1000
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


@register.filter
def show(row: object, name: str) -> str:
    """A row's number as its metric prints it."""
    return str(row.show(name))  # type: ignore[attr-defined]


@register.filter
def cell(value: float | None) -> str:
    return "–" if value is None else f"{value:,.10g}"
