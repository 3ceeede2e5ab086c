"""Each audit action owns its human sentence.

Most follow from the action's own name: ``catalog.version.published`` on *Orders v2* by Alice reads "Alice published
version Orders v2". An app whose action needs more words says so with ``tells``, in its own ``models`` or ``services``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from django.utils.functional import Promise
from django.utils.translation import gettext as _

if TYPE_CHECKING:
    from apimgr.audit.models import AuditEntry

# app.thing.happened_in_the_past
ACTION: Final = re.compile(r"[a-z_]+\.[a-z_]+\.[a-z_]+")
_sentences: dict[str, str | Promise] = {}


def tells(sentences: dict[str, str | Promise]) -> None:
    """Register sentences by action. They may use ``%(actor)s``, ``%(target)s`` and whatever was recorded with it."""
    _sentences.update(sentences)


def sentence(entry: AuditEntry) -> str:
    words = {"actor": entry.actor or _("The platform"), "target": entry.target_name, **entry.data}
    told = _sentences.get(entry.action)
    if told is not None:
        try:
            return str(told) % words
        except KeyError:
            pass  # An old entry from before a word was recorded still reads, if more plainly.
    _app, thing, happened = entry.action.split(".")
    return _("%(actor)s %(happened)s %(thing)s %(target)s") % {
        **words,
        "happened": happened.replace("_", " "),
        "thing": thing.replace("_", " "),
    }
