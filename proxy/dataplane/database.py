"""The agent's connections: made again for ever, never waited for by a worker."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection

log = logging.getLogger(__name__)

Session = Callable[[AsyncConnection[Any]], Awaitable[None]]
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
# A server that is frozen rather than gone must not hold a session for ever.
_OPTIONS: Final[dict[str, Any]] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "apimgr-gateway",
    "options": "-c timezone=UTC -c statement_timeout=60000 -c idle_in_transaction_session_timeout=60000",
}


async def keep(name: str, url: str, session: Session) -> None:
    """Run ``session`` on a connection; when either fails, say so once and try again, for ever."""
    pause = FIRST_PAUSE
    away = False
    while True:
        began = time.monotonic()
        try:
            async with await AsyncConnection.connect(url, autocommit=True, **_OPTIONS) as connection:
                if away:
                    log.info("%s: the database is back", name)
                away = False
                await session(connection)
        except (psycopg.Error, OSError) as error:
            if not away:
                log.warning("%s: the database is away (%s); calls go on, trying again", name, _first_line(error))
            away = True
        except Exception:
            log.exception("%s failed; trying again", name)
        # A session that worked for a while earns a quick return.
        pause = FIRST_PAUSE if time.monotonic() - began > 2 * LONGEST_PAUSE else min(pause * 2, LONGEST_PAUSE)
        await asyncio.sleep(pause)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
