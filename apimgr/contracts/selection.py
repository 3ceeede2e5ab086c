"""How callers choose a version where several share an address: which names and values will do, for both planes.

A name that the gateway, a proxy or a browser gives a meaning of its own would be changed or dropped on its way, or hold
a secret; so it cannot choose. The values are those a version's name may have: none needs encoding anywhere.
"""

from __future__ import annotations

import re
from typing import Final

from apimgr.contracts.snapshot import RouteDocument

MAX_CHOICES: Final = 200
HEADER_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,59}")
PARAMETER_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9._~-]{0,59}")
VALUE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")

# What callers send under names that begin so reaches no upstream: who they are, and by whom they come, we say.
DROPPED_PREFIXES: Final = ("proxy-", "x-forwarded-", "x-consumer-", "x-original-", "x-rewrite-")
# What is between two hops, frames a message, or is the gateway's to write; credentials; what browsers and caches read.
_RESERVED_FIELDS: Final = frozenset({
    "accept-charset", "accept-encoding", "accept-language", "age", "authorization", "baggage", "cache-control",
    "cf-connecting-ip", "client-ip", "connection", "cookie", "date", "expect", "fastly-client-ip", "forwarded",
    "forwarded-for", "host", "http2-settings", "idempotency-key", "keep-alive", "origin", "pragma", "proxy", "range",
    "referer", "remote-user", "set-cookie", "te", "traceparent", "tracestate", "trailer", "transfer-encoding",
    "true-client-ip", "upgrade", "user-agent", "vary", "via", "www-authenticate", "x-access-token", "x-api-key",
    "x-auth-token", "x-azure-clientip", "x-client-ip", "x-cluster-client-ip", "x-csrf-token", "x-csrftoken",
    "x-forward-for", "x-forwarded", "x-http-method", "x-http-method-override", "x-method-override",
    "x-originating-ip", "x-proxyuser-ip", "x-real-ip", "x-remote-addr", "x-remote-ip", "x-remote-user",
    "x-request-id",
})  # fmt: skip
_RESERVED_PREFIXES: Final = (*DROPPED_PREFIXES, "content-", "sec-", "access-control-", "if-", "x-api-key-")
_SECRET_PARAMETERS: Final = frozenset({
    "key", "apikey", "token", "accesstoken", "authorization", "password", "secret", "clientsecret", "signature",
    "sig", "code", "session",
})  # fmt: skip


def is_name(select_by: str, name: str) -> bool:
    """Whether ``name`` is spelled as a header field or query parameter that can choose."""
    return (HEADER_NAME if select_by == "header" else PARAMETER_NAME).fullmatch(name) is not None


def is_reserved(select_by: str, name: str) -> bool:
    """Whether ``name`` has another meaning, to us or to those between."""
    lower = name.lower()
    if select_by == "header":
        return lower in _RESERVED_FIELDS or lower.startswith(_RESERVED_PREFIXES)
    return re.sub(r"[^a-z0-9]", "", lower) in _SECRET_PARAMETERS


def problem_of(route: RouteDocument) -> str:
    """Why no gateway could choose by ``route``; empty if one can."""
    if not route.select_by:
        return "choices need a selection" if route.choices or route.select_name else ""
    name, values = route.select_name, [choice.value for choice in route.choices]
    if not is_name(route.select_by, name):
        return f"{name!r} is no name of a {_KIND[route.select_by]}"
    if is_reserved(route.select_by, name):
        return f"{name!r} has another meaning and cannot choose a version"
    wrong = next((value for value in values if VALUE.fullmatch(value) is None), None)
    if wrong is not None:
        return f"{wrong!r} is no value that a call could carry"
    if len(set(values)) < len(values):
        return "two versions have one value"
    return f"more than {MAX_CHOICES} versions at one address" if len(values) > MAX_CHOICES else ""


_KIND: Final = {"header": "header field", "query": "query parameter"}
