from __future__ import annotations

import pytest
from django.conf import settings

from analytics.metrics import METRICS, change


def test_every_metric_has_its_line_in_the_reference() -> None:
    text = (settings.BASE_DIR / "docs" / "reference" / "metrics.md").read_text()
    assert [name for name in METRICS if f"`{name}`" not in text] == []


def test_a_metric_says_what_it_is() -> None:
    for metric in METRICS.values():
        assert str(metric.sentence).endswith(".")
        assert bool(metric.sql) != bool(metric.share)


@pytest.mark.parametrize(
    ("name", "now", "before", "text"),
    [
        ("requests", 150, 100, "+50.0 %"),
        ("requests", 50, 100, "−50.0 %"),
        ("requests", 100, 100, "±0.0 %"),
        ("requests", 5, 0, ""),
        ("requests", 5, None, ""),
        ("success_rate", 99.5, 99.9, "−0.40 pp"),
        ("p95", 10.0, 8.0, "+25.0 %"),
    ],
)
def test_a_change_is_told_as_a_person_would(name: str, now: float, before: float | None, text: str) -> None:
    assert change(METRICS[name], now, before) == text
