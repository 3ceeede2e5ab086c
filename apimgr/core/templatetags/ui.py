"""Template tags every page may use without loading them."""

from __future__ import annotations

from django import template

from apimgr.core.ids import encode_id

register = template.Library()


@register.filter
def public_id(value: int) -> str:
    """The 13 characters an id has outside."""
    return encode_id(value)
