"""The API reference: Scalar over our own document, and the same operations as a plain list for everybody else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Final, TypeVar

from csp.decorators import csp_update
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from apimgr.catalog.selectors import public_api, public_version
from portal.reference import public_document
from portal.selectors import base_url, choice_of, deployed_operations, document_of, needs_key

# Of the documents that are made of a revision: another number when `public_document` makes another one of the same.
_FORM: Final = 3
V = TypeVar("V", bound=Callable[..., HttpResponse])


def _relaxed(view: V) -> V:
    """Scalar writes its styles into the page. No script may: ``script-src`` stays as it is everywhere."""
    return csp_update({"style-src": ["'unsafe-inline'"]})(view)  # type: ignore[return-value]


@require_safe
@_relaxed
def reference(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    version = public_version(slug, name)
    context = {
        "api": version.api,
        "version": version,
        "versions": public_api(slug).live_versions,  # type: ignore[attr-defined]
        "operations": deployed_operations(version),
        "base_url": base_url(version),
        "choice": version.choice,
        "needs_key": needs_key(version),
        "document_url": reverse("portal:document", args=[slug, name]),
        "relay_url": reverse("portal:try"),
    }
    return render(request, "portal/reference.html", context)


@require_safe
@_relaxed
def rest(request: HttpRequest) -> HttpResponse:
    """The platform's own REST API: we publish ourselves. It is on this origin, so trying it needs no relay."""
    context = {"document_url": reverse("api-schema"), "relay_url": "", "title": _("REST API")}
    return render(request, "portal/reference_rest.html", context)


@require_safe
def document(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    """The OpenAPI document of what is live, with the gateway as its server."""
    version = public_version(slug, name)
    address, choice = base_url(version), choice_of(version)
    revision = version.deployed_revision_id or version.specification_id
    etag = hashlib.blake2b(f"{_FORM} {revision} {address} {choice}".encode(), digest_size=12).hexdigest()
    if request.headers.get("If-None-Match") == f'"{etag}"':
        return HttpResponse(status=304, headers={"ETag": f'"{etag}"'})
    public = public_document(document_of(version), address, choice, needs_key=needs_key(version))
    body = json.dumps(public, ensure_ascii=False, separators=(",", ":"))
    headers = {
        "ETag": f'"{etag}"',
        "Cache-Control": "no-cache",
        "Content-Disposition": f'inline; filename="{slug}.json"',
    }
    return HttpResponse(body, content_type="application/json", headers=headers)
