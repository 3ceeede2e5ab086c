"""What the ledger may forget."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Final

from django.conf import settings
from django.db import connection
from django.db.models import Max
from django.utils import timezone

from analytics import partitions
from analytics.models import UsageNode

# A range that was rolled up stands in its boot's books (``usage_boot``), so that nothing adds it up any more; the
# partitions of its calls are dropped; and whoever shipped it has long had an answer. What remains to be asked of the
# ledger is how far a segment is stored: an idle node writes to one for months. So the last range of each segment stays,
# for ever: it is one row in tens of thousands of calls, and even a spool that comes back from a backup counts nothing
# twice.
_FORGET: Final = """
DELETE FROM usage_batch WHERE id = ANY(ARRAY(
    SELECT id FROM usage_batch AS old
    WHERE shipped_at < %(before)s AND last_at < %(before)s AND rolled_up_at IS NOT NULL AND EXISTS (
        SELECT FROM usage_batch AS later
        WHERE (later.node, later.boot, later.worker, later.segment) = (old.node, old.boot, old.worker, old.segment)
            AND later.to_offset > old.to_offset
    )
    LIMIT %(at_once)s
))
"""


def prune_ledger(*, at_once: int = 20_000) -> int:
    """Delete the ranges that can matter to nobody: those older than calls are kept. Returns how many went."""
    oldest = partitions.today() - timedelta(days=settings.USAGE_RETENTION_DAYS["event"])
    before = datetime.combine(oldest, time(), UTC)
    total = 0
    while True:
        with connection.cursor() as cursor:
            cursor.execute(_FORGET, {"before": before, "at_once": at_once})
            count = int(cursor.rowcount)
        total += count
        if count < at_once:
            return total


def forget_nodes() -> int:
    """Delete how far nodes have shipped that were not seen for ``GATEWAY_NODE_DAYS``. Returns how many.

    Not of the one that came furthest: where no node is left, it says until when numbers are whole.
    """
    furthest = UsageNode.objects.aggregate(until=Max("shipped_until"))["until"]
    if furthest is None:
        return 0
    before = timezone.now() - timedelta(days=settings.GATEWAY_NODE_DAYS)
    count, _ = UsageNode.objects.filter(seen_at__lt=before, shipped_until__lt=furthest).delete()
    return count
