from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from allauth.account.adapter import DefaultAccountAdapter
from django.conf import settings
from django.http import HttpRequest
from django.utils.http import url_has_allowed_host_and_scheme

from apimgr.accounts.services import own_organisation

if TYPE_CHECKING:
    from django.forms import BaseForm

    from apimgr.accounts.models import User

MAX_NEXT_CHARS: Final = 2000


class AccountAdapter(DefaultAccountAdapter):
    """Where allauth asks the project."""

    def is_safe_url(self, url: str | None) -> bool:
        """Only a path of this very site may follow a sign-in (security.md P10): no host, not even our own, in ``next``.

        Browsers read ``\\`` as ``/`` and drop tabs and line ends, so such characters make a path a host; none of ours
        has them.
        """
        if not url or len(url) > MAX_NEXT_CHARS or not url.startswith("/") or url.startswith("//"):
            return False
        if "\\" in url or not url.isprintable() or " " in url:
            return False
        parts = urlsplit(url)
        return not parts.scheme and not parts.netloc and url_has_allowed_host_and_scheme(url, allowed_hosts=None)

    def clean_email(self, email: str) -> str:
        """One spelling per address: an account is looked up by it."""
        return str(super().clean_email(email)).lower()

    def save_user(self, request: HttpRequest, user: User, form: BaseForm, commit: bool = True) -> User:
        """Whoever signs up gets an organisation of their own to keep applications in."""
        saved: User = super().save_user(request, user, form, commit)
        if commit:
            own_organisation(saved)
        return saved

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        super().send_mail(template_prefix, email, {**context, "web_url": settings.WEB_URL})
