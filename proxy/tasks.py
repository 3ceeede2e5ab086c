"""Doors for Celery: each says "go look", and a run that is missed is made up for by the next."""

from __future__ import annotations

from celery import shared_task

from proxy import services


@shared_task(acks_late=True, ignore_result=True)  # type: ignore[untyped-decorator,unused-ignore]
def compact_changes() -> None:
    services.compact_changes()


@shared_task(acks_late=True, ignore_result=True)  # type: ignore[untyped-decorator,unused-ignore]
def remove_gone_nodes() -> None:
    services.remove_gone_nodes()


@shared_task(acks_late=True, ignore_result=True)  # type: ignore[untyped-decorator,unused-ignore]
def close_boots() -> None:
    services.close_boots()


@shared_task(acks_late=True, ignore_result=True)  # type: ignore[untyped-decorator,unused-ignore]
def touch_credentials() -> None:
    services.touch_credentials()


@shared_task(acks_late=True, ignore_result=True)  # type: ignore[untyped-decorator,unused-ignore]
def forget_removals() -> None:
    services.forget_removals()


@shared_task(acks_late=True, ignore_result=True)  # type: ignore[untyped-decorator,unused-ignore]
def forget_secrets() -> None:
    services.forget_secrets()
