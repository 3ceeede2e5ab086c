from __future__ import annotations

import subprocess
import sys

import pytest
from django.conf import settings

FORBIDDEN = ("django", "psycopg", "celery", "rest_framework", "httpx", "sqlite3", "proxy.dataplane.agent")
PROGRAM = """
import sys
import proxy.dataplane.worker, proxy.dataplane.replica.reader, proxy.dataplane.usage.spool, proxy.dataplane.__main__
print("\\n".join(sys.modules))
"""


@pytest.mark.processes
def test_a_worker_holds_no_django_and_no_database_driver() -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=settings.BASE_DIR, capture_output=True, text=True, check=True
    )
    loaded = result.stdout.split()
    assert [name for name in loaded if name.startswith(FORBIDDEN)] == []
