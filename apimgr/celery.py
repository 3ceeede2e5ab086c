"""The Celery application. Tasks carry no data, only "go look" (docs/explanation/analytics.md)."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from celery import Celery
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "apimgr.settings")


def beat_schedule() -> dict[str, Any]:
    """Every periodic task: the ``SCHEDULE`` of each of our apps that has a ``schedules`` module."""
    ours = {path.parent.name for path in Path(settings.BASE_DIR).glob("*/__init__.py")}
    names = [entry.partition(".apps.")[0] for entry in settings.INSTALLED_APPS]
    modules = [f"{name}.schedules" for name in names if name.partition(".")[0] in ours]
    return {key: entry for name in modules if find_spec(name) for key, entry in import_module(name).SCHEDULE.items()}


app = Celery("apimgr")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.conf.beat_schedule = beat_schedule()
# Beat's own notes and the broker's folders: without them neither starts.
for folder in ("celery/queue", "celery/control"):
    (settings.VAR_DIR / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
