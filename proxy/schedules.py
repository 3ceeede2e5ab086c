from __future__ import annotations

from typing import Any, Final

SCHEDULE: Final[dict[str, dict[str, Any]]] = {
    "proxy.compact_changes": {
        "task": "proxy.tasks.compact_changes",
        "schedule": 900.0,
        "options": {"expires": 600},
    },
    # Each run looks two minutes back, so that several in a row may be missed.
    "proxy.touch_credentials": {
        "task": "proxy.tasks.touch_credentials",
        "schedule": 10.0,
        "options": {"expires": 10},
    },
}
