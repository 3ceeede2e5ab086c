from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from apimgr.accounts.mailbox import newest


@never_cache
@require_GET
def mailbox(request: HttpRequest) -> HttpResponse:
    """Every mail the demo has sent, open to whoever reaches the demo: without a mail server the code must be read
    somewhere. Elsewhere this page does not exist."""
    if not settings.MAILBOX:
        raise Http404
    is_partial = request.headers.get("HX-Request") == "true"
    template = "accounts/_mails.html" if is_partial else "accounts/mailbox.html"
    return render(request, template, {"mails": newest(Path(settings.EMAIL_FILE_PATH))})
