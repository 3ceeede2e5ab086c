"""A migrated database for a benchmark, beside that of ``DATABASE_URL``, which is left alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "apimgr.settings")
django.setup()

from django.test.utils import setup_databases, teardown_databases  # noqa: E402


@contextmanager
def own_database() -> Iterator[None]:
    with redirect_stdout(StringIO()):
        databases = setup_databases(verbosity=0, interactive=False)
    try:
        yield
    finally:
        teardown_databases(databases, verbosity=0)
