"""What answers may be asked for besides JSON: rows, for a spreadsheet or a program that reads line by line.

The view writes the rows; what goes through here are its refusals, which stay problem documents.
"""

from __future__ import annotations

from rest_framework.renderers import JSONRenderer


class CsvRenderer(JSONRenderer):
    media_type = "text/csv"
    format = "csv"


class LinesRenderer(JSONRenderer):
    media_type = "application/x-ndjson"
    format = "ndjson"
