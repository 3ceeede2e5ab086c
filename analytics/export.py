"""CSV for spreadsheets, with nothing in it that a spreadsheet would run (security.md P16)."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from django.http import HttpResponse
from rest_framework.utils.encoders import JSONEncoder

# What Excel, LibreOffice and Google Sheets read as the start of a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def neutral(value: Any) -> Any:
    """A cell that stays text: a leading apostrophe tells a spreadsheet so. Numbers are numbers."""
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value


def csv_response(name: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> HttpResponse:
    """A download of ``rows``, which the caller has bounded."""
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"', "Cache-Control": "no-store"}
    response = HttpResponse(content_type="text/csv; charset=utf-8", headers=headers)
    writer = csv.writer(response)
    writer.writerow(head)
    writer.writerows([neutral(cell) for cell in row] for row in rows)
    return response


def lines_response(name: str, rows: Iterable[dict[str, Any]]) -> HttpResponse:
    """As ``csv_response``, one JSON object a line."""
    headers = {"Content-Disposition": f'attachment; filename="{name}.ndjson"', "Cache-Control": "no-store"}
    lines = "".join(json.dumps(row, cls=JSONEncoder, ensure_ascii=False) + "\n" for row in rows)
    return HttpResponse(lines, content_type="application/x-ndjson", headers=headers)
