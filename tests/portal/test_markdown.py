from __future__ import annotations

import re

import pytest

from portal.markdown import render

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<a href='javascript:alert(1)'>x</a>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<form><button formaction=javascript:alert(1)>x",
    "<details open ontoggle=alert(1)>",
    "<body onload=alert(1)>",
    "<style>@import 'https://evil.example/x.css';</style>",
    "<base href='https://evil.example/'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<!--><img src=x onerror=alert(1)>-->",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](  javascript:alert(1))",
    "[x](java&#x09;script:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](vbscript:msgbox(1))",
    "[x](file:///etc/passwd)",
    "![x](https://evil.example/spy.png)",
    '![x](x "onerror=alert(1)")',
    "![x](javascript:alert(1))",
    "<javascript:alert(1)>",
    "[x]: javascript:alert(1)\n\n[x]",
    '[x](https://ok.example "\\" onmouseover=alert(1) x=\\"")',
    "```<script>alert(1)</script>\n```",
    '``` x"onmouseover="alert(1)\ncode\n```',
    "`<img src=x onerror=alert(1)>`",
    "| <script>alert(1)</script> |\n|---|\n| <img src=x onerror=alert(1)> |",
]
# Tags and attributes that survive; everything else must be text.
ALLOWED = re.compile(
    r"</?(?:p|br|hr|strong|em|s|code|pre|blockquote|ul|ol|li|h[2-6]|table|thead|tbody|tr|th|td)>"
    r'|<a(?: href="(?:https?://|mailto:)[^"<>]*")?(?: title="[^"<>]*")? rel="[a-z ]+">|</a>'
)


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_hostile_survives(text: str) -> None:
    rest = ALLOWED.sub("", render(text))
    assert "<" not in rest, rest


def test_what_writers_mean_is_kept() -> None:
    html = render("# One\n\nA *b* [c](https://example.com) `d`\n\n- e\n\n| f |\n|---|\n| g |")
    for part in (
        "<h2>One</h2>",
        "<em>b</em>",
        'href="https://example.com"',
        "<code>d</code>",
        "<li>e</li>",
        "<td>g</td>",
    ):
        assert part in html
    assert 'rel="noopener noreferrer nofollow ugc"' in html


def test_a_flood_ends() -> None:
    assert len(render("[" * 300_000)) < 200_000
