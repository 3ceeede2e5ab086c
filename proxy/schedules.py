from __future__ import annotations

from typing import Any, Final

from celery.schedules import crontab

SCHEDULE: Final[dict[str, dict[str, Any]]] = {
    "proxy.compact_changes": {
        "task": "proxy.tasks.compact_changes",
        "schedule": 900.0,
        "options": {"expires": 600},
    },
    "proxy.remove_gone_nodes": {
        "task": "proxy.tasks.remove_gone_nodes",
        "schedule": crontab(minute=37),
        "options": {"expires": 1800},
    },
    "proxy.close_boots": {
        "task": "proxy.tasks.close_boots",
        "schedule": crontab(minute=47),
        "options": {"expires": 1800},
    },
    "proxy.forget_secrets": {
        "task": "proxy.tasks.forget_secrets",
        "schedule": crontab(minute=7),
        "options": {"expires": 1800},
    },
    "proxy.forget_removals": {
        "task": "proxy.tasks.forget_removals",
        "schedule": crontab(minute=12),
        "options": {"expires": 1800},
    },
    # Each run looks two minutes back, so that several in a row may be missed.
    "proxy.touch_credentials": {
        "task": "proxy.tasks.touch_credentials",
        "schedule": 10.0,
        "options": {"expires": 10},
    },
}
