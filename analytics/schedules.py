"""What beat asks for, and how often. A run that is missed is made up for by the next one, so each may expire."""

from __future__ import annotations

from typing import Any, Final

from celery.schedules import crontab

SCHEDULE: Final[dict[str, dict[str, Any]]] = {
    "analytics.roll_up": {"task": "analytics.tasks.roll_up", "schedule": 2.0, "options": {"expires": 10}},
    "analytics.keep_partitions": {
        "task": "analytics.tasks.keep_partitions",
        "schedule": 3600.0,
        "options": {"expires": 1800},
    },
    "analytics.drop_expired": {
        "task": "analytics.tasks.drop_expired",
        "schedule": crontab(minute=17),
        "options": {"expires": 1800},
    },
    "analytics.prune_ledger": {
        "task": "analytics.tasks.prune_ledger",
        "schedule": crontab(minute=27),
        "options": {"expires": 1800},
    },
    "analytics.forget_nodes": {
        "task": "analytics.tasks.forget_nodes",
        "schedule": crontab(minute=57),
        "options": {"expires": 1800},
    },
}
