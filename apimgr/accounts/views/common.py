from __future__ import annotations

from django.http import HttpRequest

from apimgr.accounts.models import User


def user_of(request: HttpRequest) -> User:
    """The signed-in person, for services, which take no anonymous actor."""
    assert isinstance(request.user, User), "the view must be login_required"
    return request.user
