"""How a caller of the REST API proves who they are."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.core.cache import caches
from django.db.models import Exists, OuterRef
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from apimgr.accounts.models import ApiToken, Membership, User
from apimgr.contracts.credentials import digest_key, is_well_formed

if TYPE_CHECKING:
    from rest_framework.views import APIView  # at run time it imports its authentication classes: us

# Writing "last used" on every call would make each read a write.
USE_RECORDED_EVERY: Final = timedelta(minutes=1)


class ApiTokenAuthentication(BaseAuthentication):
    """``Authorization: Bearer <token>``: the token's owner, confined to the token's organisation.

    No cookie is read, so there is nothing for another site to forge. A string that is no token costs no look-up (K2),
    and why a well-formed one is refused is not told.
    """

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        scheme, _sep, secret = get_authorization_header(request).partition(b" ")
        if not scheme:
            return None
        if scheme.lower() != b"bearer" or not is_well_formed(secret):
            raise AuthenticationFailed(_("Authorization must be Bearer and a whole API token."))
        token = _live_token(secret)
        if token is None:
            raise AuthenticationFailed(_("This API token is not known, has expired or was revoked."))
        _note_use(token)
        token.user.acting_in = token.organisation_id
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="apimgr"'


def _live_token(secret: bytes) -> ApiToken | None:
    membership = Membership.objects.filter(organisation_id=OuterRef("organisation_id"), user_id=OuterRef("user_id"))
    found = ApiToken.objects.select_related("user", "organisation").filter(
        Exists(membership), digest=digest_key(secret, settings.KEY_PEPPER), user__is_active=True
    )
    token = found.first()
    return token if token is not None and token.state == "active" else None


def _note_use(token: ApiToken) -> None:
    now = timezone.now()
    if token.last_used_at is None or token.last_used_at < now - USE_RECORDED_EVERY:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)


class TokenThrottle(SimpleRateThrottle):
    """A bound per token, so that one runaway script does not take the console from everyone else."""

    scope = "token"
    cache = caches["throttle"]

    def get_cache_key(self, request: Request, view: APIView) -> str | None:
        if isinstance(request.auth, ApiToken):
            return f"throttle:token:{request.auth.pk}"
        return f"throttle:address:{self.get_ident(request)}"
