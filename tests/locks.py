"""Who waits for whom in the database."""

from __future__ import annotations

from django.db import connection


def somebody_waits() -> bool:
    """Whether somebody waits for what another transaction has locked."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])
