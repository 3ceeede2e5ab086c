from __future__ import annotations

from functools import partial
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from apimgr.core import navigation

THEMES = ("auto", "light", "dark")


def shell(request: HttpRequest) -> dict[str, Any]:
    """What every page's frame needs: the theme from its cookie (no flash), public addresses, navigation.

    Navigation is lazy: a partial or a public page never pays for a sidebar it does not show.
    """
    theme = request.COOKIES.get("theme", "auto")
    return {
        "theme": theme if theme in THEMES else "auto",
        "gateway_url": settings.GATEWAY_URL,
        "mailbox": settings.MAILBOX,
        "navigation": SimpleLazyObject(partial(navigation.sections, request)),
        "organisation_name": SimpleLazyObject(partial(navigation.organisation_name, request)),
        "home_label": SimpleLazyObject(partial(navigation.home_label, request)),
        "public_links": SimpleLazyObject(partial(navigation.public_links, request)),
        "account_links": SimpleLazyObject(partial(navigation.account_links, request)),
    }
