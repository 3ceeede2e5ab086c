"""What ``docs/reference/outcomes/`` says of each outcome, as part of a page."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

from django.conf import settings
from django.utils.safestring import SafeString

from apimgr.contracts.outcomes import Outcome
from portal.markdown import render

_PAGES: Final = Path(settings.BASE_DIR) / "docs" / "reference" / "outcomes"
_LINK: Final = re.compile(r"\[([^\]]+)\]\([^)]+\)")


@cache
def text_of(outcome: Outcome) -> SafeString:
    """From the first heading below the title on. Links lead to pages that are for operators, so their words stay."""
    page = (_PAGES / f"{outcome.code}.md").read_text(encoding="utf-8")
    _, heading, rest = page.partition("\n## ")
    return render(_LINK.sub(r"\1", (heading + rest).replace("\n## ", "\n# ")))
