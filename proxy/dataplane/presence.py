"""How others find the node's first process: a pid file, and what a service manager such as systemd is told."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from pathlib import Path

log = logging.getLogger(__name__)


def write_pid(path: Path) -> None:
    """Whole or not at all: whoever reads it while an upgrade changes it sees one of the two."""
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        beside.write_text(f"{os.getpid()}\n")
        beside.replace(path)
    except OSError as error:
        log.error("Process %d has no pid file: %s", os.getpid(), error)


def remove_pid(path: Path) -> None:
    """Take it away if it is still ours, and not a successor's."""
    with contextlib.suppress(FileNotFoundError):
        if path.read_text().strip() == str(os.getpid()):
            path.unlink()


def is_watched() -> bool:
    """Whether the service manager ends us unless it hears ``WATCHDOG=1`` now and then (sd_watchdog_enabled(3))."""
    return os.environ.get("WATCHDOG_USEC", "0") != "0"


def notify(*assignments: str) -> None:
    """Tell the service manager that started us, if one did (sd_notify(3)). Nothing depends on its hearing it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.connect("\0" + address[1:] if address[0] == "@" else address)
        manager.send("\n".join(assignments).encode())
