"""What is measured beside what was aimed at: the last table of ``make bench``."""

from __future__ import annotations

from typing import NamedTuple


class Figure(NamedTuple):
    """``target`` is the most that ``value`` may be, or the least where ``at_least``."""

    name: str
    value: float
    unit: str
    target: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.target if self.at_least else self.value <= self.target


def print_figures(figures: list[Figure], failed: list[str]) -> None:
    print(f"\n{'':58}{'measured':>12}{'target':>12}\n")
    for figure in figures:
        sign = "≥" if figure.at_least else "≤"
        verdict = "met" if figure.met else "NOT MET"
        measured, target = f"{figure.value:,.4g} {figure.unit}", f"{sign} {figure.target:,g} {figure.unit}"
        print(f"{figure.name:58}{measured:>12}{target:>12}   {verdict}")
    for name in failed:
        print(f"{name:58}{'failed':>12}{'':12}   NOT MEASURED")
