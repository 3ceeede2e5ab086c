from __future__ import annotations

from typing import Final

from django.db import connection, transaction

# The ledger's rows lead to the events of the last minutes alone (the tables are analytics').
_TOUCH: Final = """
    UPDATE portal_credential AS credential SET
        last_used_at = greatest(credential.last_used_at, used.at),
        former_used_at = greatest(credential.former_used_at, used.former_at)
    FROM (
        SELECT event.credential_id,
            max(event.started_at) FILTER (WHERE event.flags & 4 = 0) AS at,
            max(event.started_at) FILTER (WHERE event.flags & 4 <> 0) AS former_at
        FROM usage_batch AS batch
        JOIN usage_event AS event ON event.batch_id = batch.id
            AND event.started_at BETWEEN batch.first_at AND batch.last_at
        WHERE batch.shipped_at > now() - interval '2 minutes' AND event.started_at > now() - interval '1 day'
            AND event.credential_id <> 0
        GROUP BY event.credential_id
    ) AS used
    WHERE credential.id = used.credential_id
        AND (coalesce(credential.last_used_at < used.at, used.at IS NOT NULL)
            OR coalesce(credential.former_used_at < used.former_at, used.former_at IS NOT NULL))
"""


@transaction.atomic
def touch_credentials() -> int:
    """Note when keys were last used, from the usage that arrived in the last two minutes. Returns how many moved on."""
    with connection.cursor() as cursor:
        cursor.execute(_TOUCH)
        return int(cursor.rowcount)
