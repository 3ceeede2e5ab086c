from __future__ import annotations

from django import template
from django.utils.safestring import SafeString

from portal.markdown import render

register = template.Library()


@register.filter
def markdown(text: str) -> SafeString:
    """Markdown as safe HTML."""
    return render(text)
