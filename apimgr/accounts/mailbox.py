"""The mail a demo has sent: Django's file backend writes one file per connection into ``var/mail``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from itertools import chain, islice
from pathlib import Path
from typing import Final

# The backend ends each message with a line of dashes.
_SEPARATOR: Final = re.compile(rb"\n-{79}\n")
MAX_FILE_BYTES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Mail:
    to: str
    subject: str
    sent_at: datetime | None
    text: str


def newest(folder: Path, limit: int = 30) -> list[Mail]:
    """The last ``limit`` mails, newest first. No folder is an empty mailbox."""
    # By time written: within a second the names say nothing of the order.
    files = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return list(islice(chain.from_iterable(map(_mails, files)), limit))


def _mails(path: Path) -> Iterator[Mail]:
    with path.open("rb") as file:
        raw = file.read(MAX_FILE_BYTES)
    for part in reversed(_SEPARATOR.split(raw)):
        if part.strip():
            yield _read(part)


def _read(raw: bytes) -> Mail:
    message = message_from_bytes(raw.lstrip(), _class=EmailMessage, policy=policy.default)
    body = message.get_body(("plain",))
    date = message["Date"]
    return Mail(
        to=str(message["To"] or ""),
        subject=str(message["Subject"] or ""),
        sent_at=parsedate_to_datetime(str(date)) if date else None,
        text=str(body.get_content()) if body else "",
    )
