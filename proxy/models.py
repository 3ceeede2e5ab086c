"""The gateway's control half: an ordered log of configuration changes, and the nodes that apply it."""

from __future__ import annotations

from django.contrib.postgres.functions import RandomUUID
from django.db import models

from apimgr.core.ids import encode_id


class GatewayChange(models.Model):
    """One change a gateway must know. ``sequence`` has no gaps and grows in commit order (``append_changes``)."""

    sequence = models.BigIntegerField(primary_key=True)
    kind = models.CharField(max_length=20)
    key = models.CharField(max_length=500)
    document = models.TextField(null=True)  # contracts.snapshot JSON; null is a tombstone
    created_at = models.DateTimeField(auto_now_add=True)
    # Which change this is: after a failover or a restored backup another one may get the number.
    token = models.UUIDField(db_default=RandomUUID(), editable=False)

    class Meta:
        indexes = [models.Index(fields=["kind", "key", "-sequence"])]

    def __str__(self) -> str:
        return f"{self.sequence} {self.kind} {self.key}"

    @property
    def shown_key(self) -> str:
        """``key`` with an id as it is elsewhere outside; of a route its address, of a credential its digest."""
        return self.key if self.kind in {"route", "credential"} else encode_id(int(self.key))


class ChangeCounter(models.Model):
    """The last sequence given out: one row, locked by each writer until it commits, so that order is commit order."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    last = models.BigIntegerField(default=0)
    # Which log this is: a node that applied another one (a database made anew) must not take its numbers for these.
    log_id = models.UUIDField(db_default=RandomUUID(), editable=False)
    # Removals of before are not told any more (``forget_removals``): who has read less than this reads all anew.
    whole_since = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="change_counter_one_row")]

    def __str__(self) -> str:
        return str(self.last)


class GatewayNode(models.Model):
    """A gateway as it last told of itself."""

    name = models.CharField(max_length=100, primary_key=True)
    boot = models.BigIntegerField()  # new at each start; part of a usage batch's identity
    software_version = models.CharField(max_length=40)
    workers = models.PositiveSmallIntegerField(default=0)
    applied_sequence = models.BigIntegerField(default=0)
    applied_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField()
    heartbeat_at = models.DateTimeField()
    # proxy.dataplane.agent.heartbeat.counters: the node's side of reconciliation.
    counters = models.JSONField(default=dict)

    def __str__(self) -> str:
        return self.name


class GatewayBoot(models.Model):
    """What a node counted from one start to the next. Its rows of the ledger carry the same node and boot.

    ``closed_at``: nothing more is expected, so the counts are final. The node said that nothing of that boot waits any
    more, or the platform gave it up. The row outlives its node: what was generated and never stored stays to be seen,
    and a node that comes back goes on with its own counts.
    """

    pk = models.CompositePrimaryKey("node", "boot")
    node = models.CharField(max_length=100)
    boot = models.BigIntegerField()
    software_version = models.CharField(max_length=40)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    generated = models.BigIntegerField()
    spooled = models.BigIntegerField()
    unrecorded = models.BigIntegerField()
    acknowledged = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.node}/{self.boot}"

    @property
    def is_given_up(self) -> bool:
        """Whether the platform closed it: later than the node, which closes with its last word, spoke of it.

        There is no mark of it besides, so whatever the node says afterwards, of any software, undoes it.
        """
        return self.closed_at is not None and self.closed_at > self.seen_at


class AppliedChanges(models.Model):
    """That a node enforced everything up to ``sequence`` at ``applied_at``: what receipts are read from."""

    node = models.CharField(max_length=100)
    sequence = models.BigIntegerField()
    applied_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["node", "sequence"], name="applied_changes_once")]

    def __str__(self) -> str:
        return f"{self.node} {self.sequence}"


class RejectedDocument(models.Model):
    """That a node does not understand what was said of ``kind`` and ``key`` from change ``since`` on.

    The last document that it understood is in force there. Gone as soon as it understands what is said last.
    """

    node = models.CharField(max_length=100)
    since = models.BigIntegerField()
    kind = models.CharField(max_length=20)
    key = models.CharField(max_length=500)
    reason = models.TextField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["node", "kind", "key"], name="rejected_document_once")]

    def __str__(self) -> str:
        return f"{self.node} {self.kind} {self.key}"
