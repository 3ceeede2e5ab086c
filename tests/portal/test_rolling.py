"""A key's second secret: made, used beside the first, ended; and a key's end (security.md K6, K7, K8)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apimgr.accounts.models import Organisation, User
from apimgr.accounts.services.organisations import resume_organisation, suspend_organisation
from apimgr.audit.models import AuditEntry
from apimgr.contracts.credentials import digest_key
from apimgr.contracts.snapshot import CredentialDocument, OrganisationDocument
from apimgr.core.errors import Conflict, DomainError, NotFound
from portal import services
from portal.models import Application, Credential
from proxy import compiler
from tests.changes import last_word

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


@pytest.fixture
def credential(dev: User, application: Application) -> Credential:
    return services.issue_credential(actor=dev, application=application)[0]


def told(digest: bytes | memoryview) -> CredentialDocument:
    """What gateways were last told of a secret."""
    document = last_word("credential", bytes(digest).hex())
    assert isinstance(document, CredentialDocument)
    return document


@pytest.mark.requirement("K7.1")
def test_both_secrets_work_within_the_overlap(dev: User, credential: Credential) -> None:
    old, before = bytes(credential.digest), timezone.now()
    rolled, key = services.roll_credential(actor=dev, credential=credential, overlap=HOUR)
    assert bytes(rolled.digest) == digest_key(key.secret.encode(), settings.KEY_PEPPER) != old
    assert (rolled.standing, rolled.pk, rolled.former) == ("rotating", credential.pk, str(credential))
    present, former = told(rolled.digest), told(old)
    assert (present.id, present.expires_at, present.superseded) == (credential.pk, 0, False)
    assert (former.id, former.state, former.superseded) == (credential.pk, "active", True)
    assert int((before + HOUR).timestamp()) <= former.expires_at <= (timezone.now() + HOUR).timestamp()
    assert AuditEntry.objects.filter(action="portal.credential.rolled").count() == 1


@pytest.mark.requirement("K7.1")
def test_without_an_overlap_the_old_one_ends_at_once(dev: User, credential: Credential) -> None:
    rolled, _ = services.roll_credential(actor=dev, credential=credential)
    assert rolled.standing == "active"
    assert told(credential.digest).expires_at <= timezone.now().timestamp()


def test_there_are_never_more_than_two(dev: User, credential: Credential) -> None:
    first = bytes(credential.digest)
    rolled, _ = services.roll_credential(actor=dev, credential=credential, overlap=HOUR)
    second = bytes(rolled.digest)
    again, _ = services.roll_credential(actor=dev, credential=rolled, overlap=HOUR)
    assert told(first).expires_at < timezone.now().timestamp()
    assert told(second).expires_at > timezone.now().timestamp()
    assert bytes(again.former_digest or b"") == second
    assert {document.digest for document in compiler.credential_documents(again)} == {
        second.hex(),
        bytes(again.digest).hex(),
    }


def test_the_former_one_can_be_ended_early_and_twice(dev: User, credential: Credential) -> None:
    rolled, _ = services.roll_credential(actor=dev, credential=credential, overlap=HOUR)
    for _ in range(2):
        ended = services.end_former_secret(actor=dev, credential=rolled)
    assert ended.standing == "active"
    assert told(credential.digest).expires_at <= timezone.now().timestamp()
    assert AuditEntry.objects.filter(action="portal.credential.former_ended").count() == 1


@pytest.mark.requirement("K8.3")
def test_revoking_ends_both(dev: User, credential: Credential) -> None:
    rolled, _ = services.roll_credential(actor=dev, credential=credential, overlap=HOUR)
    services.revoke_credential(actor=dev, credential=rolled)
    assert (told(rolled.digest).state, told(credential.digest).state) == ("revoked", "revoked")


def test_what_has_ended_is_not_rolled(dev: User, credential: Credential) -> None:
    Credential.objects.update(expires_at=timezone.now() - HOUR)
    with pytest.raises(Conflict):
        services.roll_credential(actor=dev, credential=credential)
    services.revoke_credential(actor=dev, credential=credential)
    with pytest.raises(Conflict):
        services.roll_credential(actor=dev, credential=credential)
    with pytest.raises(Conflict):
        services.set_expiry(actor=dev, credential=credential, expires_at=None)


@pytest.mark.requirement("K7.1")
@pytest.mark.parametrize("overlap", [timedelta(days=30, seconds=1), timedelta(seconds=-1)])
def test_an_overlap_has_bounds(dev: User, credential: Credential, overlap: timedelta) -> None:
    with pytest.raises(DomainError):
        services.roll_credential(actor=dev, credential=credential, overlap=overlap)
    assert Credential.objects.get().former_digest is None


def test_an_end_is_set_and_taken_away(dev: User, credential: Credential) -> None:
    ends = timezone.now() + HOUR
    services.set_expiry(actor=dev, credential=credential, expires_at=ends)
    assert told(credential.digest).expires_at == int(ends.timestamp())
    services.set_expiry(actor=dev, credential=credential, expires_at=None)
    assert told(credential.digest).expires_at == 0
    with pytest.raises(DomainError):
        services.set_expiry(actor=dev, credential=credential, expires_at=timezone.now() - HOUR)


def test_a_stranger_rolls_nothing(charlie: User, credential: Credential) -> None:
    with pytest.raises((NotFound, DomainError)):
        services.roll_credential(actor=charlie, credential=credential)


@pytest.mark.requirement("K6.1")
def test_rolling_shows_the_new_key_once(client: Client, dev: User, credential: Credential) -> None:
    client.force_login(dev)
    page = client.post(reverse("portal:credential-roll", args=[credential.pk]), {"overlap": "3600"})
    secret = page.context["key"].secret
    assert secret in page.content.decode()
    assert page.headers["Cache-Control"].count("no-store")
    again = client.get(reverse("portal:application", args=[credential.application_id])).content.decode()
    assert secret not in again
    assert str(credential) in again, "the old key is still shown, with its end"
    client.post(reverse("portal:credential-end-former", args=[credential.pk]))
    assert not Credential.objects.get().is_rotating


@pytest.mark.parametrize(("given", "is_set"), [("2099-01-31T12:00", True), ("", False)])
def test_the_page_sets_an_end(client: Client, dev: User, credential: Credential, given: str, is_set: bool) -> None:
    client.force_login(dev)
    client.post(reverse("portal:credential-expiry", args=[credential.pk]), {"expires_at": given})
    assert (Credential.objects.get().expires_at is not None) is is_set
    client.post(reverse("portal:credential-expiry", args=[credential.pk]), {"expires_at": "soon"})
    assert (Credential.objects.get().expires_at is not None) is is_set


@pytest.mark.requirement("K8.3")
def test_a_suspended_organisation_is_told_to_gateways(olga: User, dev: User, builders: Organisation) -> None:
    with pytest.raises(NotFound):
        suspend_organisation(actor=dev, organisation=builders)
    for _ in range(2):
        suspend_organisation(actor=olga, organisation=builders)
    suspended = OrganisationDocument(builders.pk, "suspended")
    assert last_word("organisation", builders.pk) == suspended
    assert suspended in list(compiler.everything())
    resume_organisation(actor=olga, organisation=builders)
    assert last_word("organisation", builders.pk) == OrganisationDocument(builders.pk, "active")
    assert AuditEntry.objects.filter(action__startswith="accounts.organisation.").count() >= 2
