"""Raw usage: what a gateway's agent writes. The columns are a treaty with it (``contracts.usage``)."""

from __future__ import annotations

from django.db import models

from apimgr.contracts.outcomes import BY_NUMBER, Outcome
from apimgr.contracts.usage import METHODS


class UsageBatch(models.Model):
    """The ledger: one frozen range of one spool segment, stored once. Its row and its events commit together."""

    id = models.BigAutoField(primary_key=True)
    node = models.TextField()
    boot = models.BigIntegerField()
    worker = models.SmallIntegerField()
    segment = models.BigIntegerField()
    from_offset = models.BigIntegerField()
    to_offset = models.BigIntegerField()
    events = models.IntegerField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    shipped_at = models.DateTimeField()
    rolled_up_at = models.DateTimeField(null=True)
    kind = models.SmallIntegerField(default=0, db_default=0)  # of contracts.usage

    class Meta:
        db_table = "usage_batch"

    def __str__(self) -> str:
        return f"{self.node}/{self.boot}/{self.worker}/{self.segment}:{self.from_offset}"


class UsageBoot(models.Model):
    """The ledger's ranges of one boot that are rolled up, added up. ``rolled_up`` is how many calls the counts took."""

    pk = models.CompositePrimaryKey("node", "boot")
    node = models.TextField()
    boot = models.BigIntegerField()
    stored = models.BigIntegerField()
    cut_off = models.BigIntegerField()
    quarantined = models.BigIntegerField()
    set_aside_bytes = models.BigIntegerField()
    rolled_up = models.BigIntegerField()

    class Meta:
        db_table = "usage_boot"

    def __str__(self) -> str:
        return f"{self.node}/{self.boot}"


class UsageNode(models.Model):
    """How far a node has shipped. An idle node moves ``shipped_until`` too, so that quiet is told from behind."""

    node = models.TextField(primary_key=True)
    shipped_until = models.DateTimeField()
    seen_at = models.DateTimeField()

    class Meta:
        db_table = "usage_node"

    def __str__(self) -> str:
        return self.node


class UsageEvent(models.Model):
    """One call. Partitioned by day; there is no unique index, the ledger is the guard against doubles.

    Ids are plain numbers, 0 for none: what they name may be gone while the call stays counted.
    """

    batch_id = models.BigIntegerField()
    # Unique by construction, a UUIDv7: its own timestamp finds the partition and the block.
    request_id = models.UUIDField(primary_key=True)
    started_at = models.DateTimeField()
    api_id = models.BigIntegerField()
    version_id = models.BigIntegerField()
    operation_id = models.BigIntegerField()
    application_id = models.BigIntegerField()
    credential_id = models.BigIntegerField()
    plan_id = models.BigIntegerField()
    bytes_in = models.BigIntegerField()
    bytes_out = models.BigIntegerField()
    total_us = models.IntegerField()
    upstream_us = models.IntegerField()
    status = models.SmallIntegerField()
    upstream_status = models.SmallIntegerField()
    outcome = models.SmallIntegerField()
    method = models.SmallIntegerField()
    flags = models.SmallIntegerField()
    client = models.GenericIPAddressField(null=True)
    path = models.TextField(null=True)
    trail = models.JSONField(null=True)

    class Meta:
        db_table = "usage_event"

    def __str__(self) -> str:
        return str(self.request_id)

    @property
    def method_name(self) -> str:
        return METHODS[self.method] if self.method < len(METHODS) else ""

    @property
    def verdict(self) -> Outcome:
        return BY_NUMBER[self.outcome]

    @property
    def is_refused(self) -> bool:
        """Whether the upstream was never asked: a call may be broken off for the same reasons later."""
        return self.verdict.refusal and not self.upstream_us
