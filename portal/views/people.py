from __future__ import annotations

from django.http import HttpRequest

from apimgr.accounts.models import User


def person(request: HttpRequest) -> User:
    """Whoever is signed in: for views behind ``login_required``."""
    assert isinstance(request.user, User)
    return request.user
