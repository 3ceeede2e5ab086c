"""The closed list of outcomes a call through the gateway can have.

Every usage record carries exactly one of these codes, every error the gateway answers itself names one, and
``docs/reference/outcomes/`` holds one page for each. Numbers are part of the record layout: never reuse or renumber.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way a call can end.

    ``number`` is the wire value in usage records; ``status`` is the HTTP status the gateway answers with, or 0 where
    the upstream's own status is relayed. ``title`` is one plain sentence, ``fix`` says what the caller can do.
    ``refusal`` is true for what the gateway decides by itself, as a rule before the upstream is asked: whether it
    was, the record's ``upstream_us`` says.
    """

    number: int
    code: str
    status: int
    title: str
    fix: str
    refusal: bool = True


_ALL = (
    Outcome(0, "ok", 0, "The upstream answered.", "", refusal=False),
    # --- the request itself -------------------------------------------------------------------------------------
    Outcome(10, "bad_request", 400, "The request is not valid HTTP.", "Send a request that follows RFC 9112."),
    Outcome(11, "uri_too_long", 414, "The request line is too long.", "Shorten the path or query."),
    Outcome(12, "head_too_large", 431, "The request head is too large.", "Send fewer or shorter header fields."),
    Outcome(13, "body_too_large", 413, "The request body is larger than this API accepts.", "Send a smaller body."),
    Outcome(
        14, "request_timeout", 408, "The request did not arrive in time.", "Send the whole request without pauses."
    ),
    Outcome(15, "method_not_implemented", 501, "The gateway does not serve this method.", "Use a method of the API."),
    Outcome(16, "version_not_supported", 505, "The gateway serves HTTP/1.0 and HTTP/1.1.", "Use HTTP/1.1."),
    Outcome(
        17, "bad_path", 400, "The path has a spelling the gateway does not accept.", "Send the path in its plain form."
    ),
    Outcome(18, "expectation_failed", 417, "The Expect field asks for something unknown.", "Send only 100-continue."),
    # --- routing --------------------------------------------------------------------------------------------------
    Outcome(20, "route_not_found", 404, "No API is published at this address.", "Check the host and the base path."),
    Outcome(
        21, "operation_not_found", 404, "The API has no operation at this path.", "Check the path in the reference."
    ),
    Outcome(
        22, "method_not_allowed", 405, "The path exists, but not with this method.", "Use a method named in Allow."
    ),
    Outcome(23, "version_retired", 410, "This version of the API has been retired.", "Move to a version that is live."),
    Outcome(24, "version_unknown", 404, "The API has no such version.", "Name a version that the documentation lists."),
    # --- who is calling -------------------------------------------------------------------------------------------
    Outcome(30, "key_missing", 401, "The call carries no API key.", "Send your key in the X-Api-Key field."),
    Outcome(31, "key_malformed", 401, "The API key is not well formed.", "Copy the whole key again."),
    Outcome(32, "key_unknown", 401, "The API key is not known.", "Create a key in the portal."),
    Outcome(33, "key_revoked", 401, "The API key has been revoked.", "Create a new key in the portal."),
    Outcome(34, "key_expired", 401, "The API key has expired.", "Create a new key in the portal."),
    Outcome(35, "key_ambiguous", 401, "The call carries more than one API key.", "Send one key, once."),
    Outcome(36, "application_suspended", 403, "The application is suspended.", "Ask the platform's operator."),
    Outcome(
        37,
        "subscription_missing",
        403,
        "The application has no subscription to this API.",
        "Subscribe in the portal, or wait for the publisher's approval.",
    ),
    Outcome(
        38, "subscription_inactive", 403, "The application's subscription is not active.", "Ask the API's publisher."
    ),
    Outcome(
        39,
        "organisation_suspended",
        403,
        "The application's organisation is suspended.",
        "Ask the platform's operator.",
    ),
    # --- limits ---------------------------------------------------------------------------------------------------
    Outcome(
        40, "rate_limited", 429, "Too many calls for a rate limit of the plan or the API.", "Wait as Retry-After says."
    ),
    Outcome(
        41,
        "quota_exceeded",
        429,
        "A quota of the plan or the API is used up.",
        "Wait as Retry-After says, or see if there is a larger plan.",
    ),
    Outcome(42, "concurrency_exceeded", 429, "Too many calls at the same time.", "Send fewer calls at once."),
    Outcome(
        43, "limits_unavailable", 503, "The plan's limits cannot be checked at the moment.", "Wait as Retry-After says."
    ),
    Outcome(
        44, "too_many_connections", 429, "Too many connections from this address.", "Keep connections and reuse them."
    ),
    # --- the upstream ---------------------------------------------------------------------------------------------
    Outcome(
        50, "upstream_unreachable", 502, "The API's upstream could not be reached.", "Try again later.", refusal=False
    ),
    Outcome(
        51, "upstream_timeout", 504, "The API's upstream did not answer in time.", "Try again later.", refusal=False
    ),
    Outcome(
        52, "upstream_invalid", 502, "The API's upstream sent an invalid answer.", "Tell the publisher.", refusal=False
    ),
    Outcome(
        53, "upstream_aborted", 0, "The upstream stopped in the middle of its answer.", "Try again.", refusal=False
    ),
    Outcome(54, "upgrade_not_allowed", 403, "The API does not allow protocol upgrades.", "Call it with plain HTTP."),
    Outcome(55, "upstream_saturated", 503, "Too many calls wait for the API's upstream.", "Try again later."),
    Outcome(
        56,
        "upstream_forbidden",
        502,
        "The API's upstream is at an address the gateway may not call.",
        "Tell the publisher.",
    ),
    # --- the caller went away -------------------------------------------------------------------------------------
    Outcome(60, "client_aborted", 0, "The caller closed the connection before the end.", "", refusal=False),
    Outcome(
        61,
        "tunnel_violation",
        0,
        "The WebSocket connection broke the protocol or a limit.",
        "Follow RFC 6455 and keep messages small.",
        refusal=False,
    ),
    # --- the gateway itself ---------------------------------------------------------------------------------------
    Outcome(70, "gateway_not_ready", 503, "The gateway has no configuration yet.", "Try again in a moment."),
    Outcome(
        71, "usage_unavailable", 503, "The gateway cannot record the call, so it does not make it.", "Try again later."
    ),
    Outcome(72, "gateway_overloaded", 503, "The gateway is at its connection limit.", "Try again in a moment."),
    Outcome(74, "gateway_stale", 503, "The gateway's configuration is older than it may be.", "Try again later."),
    Outcome(73, "loop_detected", 508, "The call came back to the gateway.", "Tell the publisher."),
    Outcome(
        75,
        "gateway_aborted",
        0,
        "The gateway's process ended in the middle of the call.",
        "Find out whether the call took effect before you repeat it.",
        refusal=False,
    ),
    Outcome(79, "internal_error", 500, "The gateway failed.", "Tell the operator the request id.", refusal=False),
)

BY_CODE: Final[dict[str, Outcome]] = {outcome.code: outcome for outcome in _ALL}
BY_NUMBER: Final[dict[int, Outcome]] = {outcome.number: outcome for outcome in _ALL}
OUTCOMES: Final[tuple[Outcome, ...]] = _ALL

assert len(BY_CODE) == len(BY_NUMBER) == len(_ALL), "outcome codes and numbers are unique"
