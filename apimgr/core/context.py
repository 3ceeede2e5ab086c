from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest


def shell(request: HttpRequest) -> dict[str, Any]:
    """What every page's frame needs: the theme from its cookie (no flash), public addresses."""
    theme = request.COOKIES.get("theme", "auto")
    return {
        "theme": theme if theme in {"auto", "light", "dark"} else "auto",
        "gateway_url": settings.GATEWAY_URL,
        "mailbox": settings.MAILBOX,
    }
