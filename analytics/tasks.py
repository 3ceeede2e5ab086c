"""Doors for Celery. They say "go look" and carry nothing: what there is to do is in the database."""

from __future__ import annotations

from celery import shared_task

from analytics import partitions
from analytics.services import retention, rollups


@shared_task(acks_late=True, ignore_result=True)  # type: ignore[untyped-decorator,unused-ignore]
def roll_up() -> None:
    rollups.roll_up_all()


@shared_task(acks_late=True, ignore_result=True)  # type: ignore[untyped-decorator,unused-ignore]
def keep_partitions() -> None:
    partitions.keep_partitions()


@shared_task(acks_late=True, ignore_result=True)  # type: ignore[untyped-decorator,unused-ignore]
def drop_expired() -> None:
    partitions.drop_expired()


@shared_task(acks_late=True, ignore_result=True)  # type: ignore[untyped-decorator,unused-ignore]
def prune_ledger() -> None:
    retention.prune_ledger()


@shared_task(acks_late=True, ignore_result=True)  # type: ignore[untyped-decorator,unused-ignore]
def forget_nodes() -> None:
    retention.forget_nodes()
