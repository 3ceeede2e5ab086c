from __future__ import annotations

from typing import Any, Final

SCHEDULE: Final[dict[str, dict[str, Any]]] = {
    "portal.mail_leak_notices": {
        "task": "portal.tasks.mail_leak_notices",
        "schedule": 10.0,
        "options": {"expires": 10},
    },
}
