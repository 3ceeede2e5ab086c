"""Doors for Celery: each says "go look", and a run that is missed is made up for by the next."""

from __future__ import annotations

from celery import shared_task

from portal import services


@shared_task(acks_late=True, ignore_result=True)  # type: ignore[untyped-decorator,unused-ignore]
def mail_leak_notices() -> None:
    services.mail_leak_notices()
