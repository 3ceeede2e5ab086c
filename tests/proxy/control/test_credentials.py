from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from apimgr.accounts.models import Organisation
from portal.models import Application, Credential
from proxy.services import touch_credentials
from tests.analytics.calls import call, store

pytestmark = pytest.mark.django_db


@pytest.fixture
def credential(builders: Organisation) -> Credential:
    application = Application.objects.create(organisation=builders, name="Shop")
    return Credential.objects.create(application=application, digest=bytes(32), prefix="ak_live_AbCdEf", last4="wxyz")


def last_used(credential: Credential) -> datetime | None:
    credential.refresh_from_db()
    return credential.last_used_at


def test_a_key_shows_when_it_was_last_used(credential: Credential) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    store(*(call(now - timedelta(minutes=minutes), credential_id=credential.pk) for minutes in (5, 1, 3)))
    assert touch_credentials() == 1
    assert last_used(credential) == now - timedelta(minutes=1)
    assert touch_credentials() == 0


def test_a_late_batch_never_turns_it_back(credential: Credential) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    store(call(now, credential_id=credential.pk))
    touch_credentials()
    store(call(now - timedelta(hours=1), credential_id=credential.pk))
    assert touch_credentials() == 0
    assert last_used(credential) == now


def test_what_arrived_long_ago_is_not_looked_at_again(credential: Credential) -> None:
    store(call(datetime.now(UTC), credential_id=credential.pk))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE usage_batch SET shipped_at = now() - interval '5 minutes'")
    assert touch_credentials() == 0
