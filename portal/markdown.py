"""Markdown from publishers, as HTML that is safe on our pages: the one sanitizer (security.md P3).

CommonMark without raw HTML, and then an allow-list over the result: what the first lets through by a bug, the second
drops. No images: an ``img`` from elsewhere would tell a third party who reads the page.
"""

from __future__ import annotations

import re
from typing import Final

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

MAX_CHARS: Final = 100_000
_TAGS: Final = set(
    "p br hr strong em s code pre blockquote ul ol li h2 h3 h4 h5 h6 a table thead tbody tr th td".split()  # noqa: SIM905
)
_ATTRIBUTES: Final = {"a": {"href", "title"}, "ol": {"start"}}
_SCHEMES: Final = {"http", "https", "mailto"}
# Whole addresses alone: what is relative in a publisher's text was relative to some other site.
_LINK: Final = re.compile(r"(?:https?://|mailto:)", re.IGNORECASE)
_markdown: Final = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"])
_markdown.validateLink = lambda url: _LINK.match(url.strip()) is not None  # type: ignore[method-assign]


def render(text: str) -> SafeString:
    """``text`` as HTML. Its headings start at level two: the page has its own first one."""
    html = _markdown.render(text[:MAX_CHARS])
    for level in range(5, 0, -1):
        html = html.replace(f"<h{level}>", f"<h{level + 1}>").replace(f"</h{level}>", f"</h{level + 1}>")
    clean = nh3.clean(
        html,
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        url_schemes=_SCHEMES,
        link_rel="noopener noreferrer nofollow ugc",
        strip_comments=True,
    )
    return mark_safe(clean)  # noqa: S308 - what nh3 has cleaned
