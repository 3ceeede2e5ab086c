"""Where a secret could have been left: every row of the database, every byte of a folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from django.db import connection


def rows_with(secrets: Iterable[str]) -> list[str]:
    """``table: secret`` of each that stands in any column of any row, as text or as bytes."""
    found = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            quoted = connection.ops.quote_name(table)
            for secret in secrets:
                texts = [f"%{secret}%", f"%{secret.encode().hex()}%"]
                cursor.execute(f"SELECT 1 FROM {quoted} AS t WHERE t::text LIKE ANY(%s) LIMIT 1", [texts])
                found += [f"{table}: {secret}"] if cursor.fetchone() else []
    return found


def files_with(folders: Iterable[Path], secrets: Iterable[str]) -> list[str]:
    """``file: secret`` of each, in whatever kind of file."""
    wanted = [secret.encode() for secret in secrets]
    return [f"{path}: {secret.decode()}" for path, content in _files(folders) for secret in wanted if secret in content]


def _files(folders: Iterable[Path]) -> Iterator[tuple[Path, bytes]]:
    for folder in folders:
        for path in [folder, *folder.rglob("*")]:
            with suppress(FileNotFoundError):  # whoever is running may be done with it by now
                if path.is_file():
                    yield path, path.read_bytes()
