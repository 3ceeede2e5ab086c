from __future__ import annotations

from rest_framework import authentication


class ApiTokenAuthentication(authentication.BaseAuthentication):
    """``Authorization: Bearer <token>``."""
