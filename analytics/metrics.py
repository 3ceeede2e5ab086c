"""Every metric, declared once: pages, REST and exports read the same line and so show the same number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True, slots=True)
class Metric:
    """A number about calls.

    ``sql`` aggregates the columns of a rollup; a percentile has a ``share`` of the latency histogram instead.
    ``needs`` names dimensions the cube must have. ``decimals`` is how exactly it is shown. ``more_is_better`` is
    ``None`` where more is neither.
    """

    name: str
    label: str | Promise
    sentence: str | Promise
    unit: str = ""
    sql: str = ""
    share: float = 0.0
    needs: frozenset[str] = frozenset()
    decimals: int = 0
    more_is_better: bool | None = None

    def show(self, value: float | None) -> str:
        """The number as pages print it, without its unit."""
        return "–" if value is None else f"{value:,.{self.decimals}f}"


_ANSWERED: Final = "sum(n) FILTER (WHERE status_class BETWEEN 1 AND 3)"


def _percent(part: str) -> str:
    return f"100.0 * coalesce({part}, 0) / nullif(sum(n), 0)"


_ALL: Final = (
    Metric(
        "requests",
        _("Requests"),
        _("Calls that reached the gateway, refused ones included."),
        sql="coalesce(sum(n), 0)",
    ),
    Metric(
        "success_rate",
        _("Success"),
        _("Share of calls answered with a status below 400."),
        unit="%",
        sql=_percent(_ANSWERED),
        decimals=2,
        more_is_better=True,
    ),
    Metric(
        "error_rate",
        _("Error rate"),
        _("Share of calls that failed on the serving side: 5xx, or an answer that broke off."),
        unit="%",
        sql=_percent("sum(errors)"),
        decimals=2,
        more_is_better=False,
    ),
    Metric("errors", _("Errors"), _("Calls that failed on the serving side."), sql="sum(errors)", more_is_better=False),
    Metric("refused", _("Refused"), _("Calls the gateway answered without asking the upstream."), sql="sum(refused)"),
    Metric("bytes_in", _("Received"), _("Bytes of request bodies."), unit="B", sql="sum(bytes_in)"),
    Metric("bytes_out", _("Sent"), _("Bytes of response bodies."), unit="B", sql="sum(bytes_out)"),
    *(
        Metric(
            f"p{percent}",
            f"p{percent}",
            _("Latency that %(percent)s %% of the calls stayed within, refused ones left out.") % {"percent": percent},
            unit="ms",
            share=percent / 100,
            decimals=1,
            more_is_better=False,
        )
        for percent in (50, 95, 99)
    ),
    Metric(
        "active_applications",
        _("Active applications"),
        _("Applications that made at least one call."),
        sql="count(DISTINCT application_id) FILTER (WHERE application_id <> 0)",
        needs=frozenset({"application_id"}),
        more_is_better=True,
    ),
)
METRICS: Final[Mapping[str, Metric]] = {metric.name: metric for metric in _ALL}


def change(metric: Metric, now: float | None, before: float | None) -> str:
    """How a number moved against the period before, as a person says it: in percent, or in points of a percentage."""
    if now is None or before is None:
        return ""
    if metric.unit == "%":
        return _signed(now - before, 2) + " pp"
    if not before:
        return ""
    return _signed(100 * (now - before) / before, 1) + " %"


def _signed(value: float, decimals: int) -> str:
    text = f"{abs(value):,.{decimals}f}"
    sign = "±" if not float(text.replace(",", "")) else "+" if value > 0 else "−"
    return sign + text


def rounded(metric: Metric, value: Any) -> float | int | None:
    """The number as REST and charts carry it."""
    if value is None:
        return None
    return int(value) if metric.decimals == 0 else round(float(value), metric.decimals + 1)
