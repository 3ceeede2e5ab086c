"""Every fact the gateway must hear of reaches the log, in the transaction that made it true."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command

from apimgr.accounts.models import Organisation, User
from apimgr.contracts import snapshot
from apimgr.contracts.snapshot import ApplicationDocument, CredentialDocument, Document
from apimgr.products.models import Plan
from portal import services as portal
from proxy.models import GatewayChange
from tests.factories import make_api, make_plan, make_product, make_version

pytestmark = pytest.mark.django_db


def last(kind: str, key: str | int) -> Document | None:
    change = GatewayChange.objects.filter(kind=kind, key=str(key)).order_by("-sequence").first()
    return snapshot.load(change.document) if change and change.document else None


@pytest.fixture
def free(acme: Organisation) -> Plan:
    return make_plan(make_product(make_version(make_api(acme))))


def test_a_key_s_life(free: Plan, dev: User, builders: Organisation) -> None:
    application = portal.create_application(actor=dev, organisation=builders, name="Shop")
    subscription = portal.subscribe(actor=dev, application=application, plan=free)
    credential, issued = portal.issue_credential(actor=dev, application=application)
    told = last("application", application.pk)
    assert isinstance(told, ApplicationDocument)
    assert [row.id for row in told.subscriptions] == [subscription.pk]
    digest = bytes(credential.digest).hex()
    assert isinstance(last("credential", digest), CredentialDocument)
    portal.revoke_credential(actor=dev, credential=credential)
    revoked = last("credential", digest)
    assert isinstance(revoked, CredentialDocument)
    assert revoked.state == "revoked"
    assert not GatewayChange.objects.filter(document__contains=issued.secret).exists()


def test_rebuilding_twice_changes_nothing(free: Plan) -> None:
    call_command("rebuild_gateway", verbosity=0, stdout=StringIO())
    before = GatewayChange.objects.count()
    assert before >= 1
    call_command("rebuild_gateway", verbosity=0, stdout=StringIO())
    assert GatewayChange.objects.count() == before
