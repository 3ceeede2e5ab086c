from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks

from apimgr.accounts.access import Permission, organisations_for, require
from apimgr.accounts.models import ApiToken, Invitation, Membership, Organisation, Role, User
from apimgr.accounts.services import (
    accept_invitation,
    add_member,
    change_role,
    create_organisation,
    create_user,
    invite_member,
    issue_api_token,
    own_organisation,
    remove_member,
)
from apimgr.audit.models import AuditEntry
from apimgr.core.errors import Conflict, DomainError, NotAllowed, NotFound
from tests.factories import make_user

pytestmark = pytest.mark.django_db


def membership(user: User, organisation: Organisation) -> Membership:
    return Membership.objects.get(user=user, organisation=organisation)


def test_whoever_creates_an_organisation_administers_it(charlie: User) -> None:
    organisation = create_organisation(actor=charlie, name="Charlie's things")
    assert membership(charlie, organisation).role == Role.ADMINISTRATOR
    assert organisation.slug == "charlies-things"


def test_two_organisations_of_one_name_have_two_addresses(charlie: User, dev: User) -> None:
    first = create_organisation(actor=charlie, name="Same")
    second = create_organisation(actor=dev, name="Same")
    assert first.slug != second.slug


def test_only_an_operator_creates_publishers(charlie: User, olga: User) -> None:
    with pytest.raises(NotAllowed):
        create_organisation(actor=charlie, name="Shop", is_publisher=True)
    assert create_organisation(actor=olga, name="Shop", is_publisher=True).is_publisher


def test_own_organisation_is_made_once() -> None:
    user = make_user("fresh")
    assert own_organisation(user) == own_organisation(user)
    assert user.memberships.count() == 1


def test_a_publisher_keeps_applications_in_an_organisation_of_their_own(ada: User, acme: Organisation) -> None:
    assert own_organisation(ada) != acme


def test_members_come_and_change_and_go(acme: Organisation, ada: User, charlie: User) -> None:
    added = add_member(actor=ada, organisation=acme, user=charlie, role=Role.VIEWER)
    change_role(actor=ada, membership=added, role=Role.PUBLISHER)
    assert organisations_for(charlie, Permission.API_PUBLISH).get() == acme
    remove_member(actor=ada, membership=added)
    with pytest.raises(NotFound):
        require(charlie, Permission.API_VIEW, acme)
    told = [entry.sentence for entry in AuditEntry.objects.filter(organisation_id=acme.pk).order_by("id")]
    assert told == [
        "Ada made Charlie a member as viewer",
        "Ada changed the role of Charlie from viewer to publisher",
        "Ada removed Charlie, who was publisher",
    ]


def test_nobody_joins_twice(acme: Organisation, ada: User, alice: User) -> None:
    with pytest.raises(Conflict):
        add_member(actor=ada, organisation=acme, user=alice, role=Role.VIEWER)


def test_only_an_administrator_manages_members(acme: Organisation, ada: User, alice: User, charlie: User) -> None:
    with pytest.raises(NotAllowed):
        add_member(actor=alice, organisation=acme, user=charlie, role=Role.VIEWER)
    with pytest.raises(NotFound):
        add_member(actor=charlie, organisation=acme, user=charlie, role=Role.ADMINISTRATOR)


@pytest.mark.parametrize("role", ["", "owner", "Administrator"])
def test_unknown_roles_are_refused(acme: Organisation, ada: User, charlie: User, role: str) -> None:
    with pytest.raises(DomainError):
        add_member(actor=ada, organisation=acme, user=charlie, role=role)
    assert not Membership.objects.filter(user=charlie, organisation=acme).exists()


def test_the_last_administrator_stays(acme: Organisation, ada: User, alice: User) -> None:
    last = membership(ada, acme)
    for attempt in (
        lambda: remove_member(actor=ada, membership=last),
        lambda: change_role(actor=ada, membership=last, role=Role.VIEWER),
    ):
        with pytest.raises(Conflict) as refused:
            attempt()
        assert refused.value.code == "last_administrator"
    change_role(actor=ada, membership=membership(alice, acme), role=Role.ADMINISTRATOR)
    remove_member(actor=ada, membership=last)
    assert not Membership.objects.filter(user=ada, organisation=acme).exists()


def test_an_administrator_who_is_switched_off_does_not_count(acme: Organisation, ada: User, alice: User) -> None:
    change_role(actor=ada, membership=membership(alice, acme), role=Role.ADMINISTRATOR)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    with pytest.raises(Conflict):
        remove_member(actor=ada, membership=membership(ada, acme))


def test_a_member_may_leave_and_their_tokens_end(acme: Organisation, ada: User, alice: User) -> None:
    token, _secret = issue_api_token(actor=alice, organisation=acme, name="Script")
    remove_member(actor=alice, membership=membership(alice, acme))
    assert ApiToken.objects.get(pk=token.pk).state == "revoked"


# --- Invitations ----------------------------------------------------------------------------------------------------


def invited(acme: Organisation, ada: User, email: str = "new@example.com") -> Invitation:
    return invite_member(actor=ada, organisation=acme, email=email, role=Role.PRODUCT_OWNER)


def test_an_invitation_is_mailed_and_accepted(
    acme: Organisation, ada: User, client: Client, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        invited(acme, ada, "New@Example.com")
    (message,) = mail.outbox
    assert message.to == ["new@example.com"]
    path = re.search(r"/invitations/\S+", message.body)
    assert path
    page = client.get(path[0])
    assert f"next={path[0].replace(':', '%3A')}" in page.content.decode()
    user = create_user(actor=None, email="new@example.com", password="a long enough phrase")
    client.force_login(user)
    assert client.post(path[0]).url == reverse("accounts:members", kwargs={"slug": acme.slug})
    assert membership(user, acme).role == Role.PRODUCT_OWNER


def test_an_invitation_is_for_its_address_alone(acme: Organisation, ada: User, charlie: User) -> None:
    with pytest.raises(NotAllowed):
        accept_invitation(actor=charlie, invitation=invited(acme, ada))


def test_an_invitation_works_once_and_for_a_week(acme: Organisation, ada: User) -> None:
    user = make_user("new")
    invitation = invited(acme, ada)
    Invitation.objects.filter(pk=invitation.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(Conflict):
        accept_invitation(actor=user, invitation=invitation)
    again = invited(acme, ada)
    accept_invitation(actor=user, invitation=again)
    with pytest.raises(Conflict):
        accept_invitation(actor=user, invitation=again)


@pytest.mark.parametrize("token", ["nonsense", "0000000000000:x", "0000000000000", ":"])
def test_a_made_up_link_leads_nowhere(client: Client, token: str) -> None:
    assert client.get(reverse("accounts:invitation", kwargs={"token": token})).status_code == 404


def test_inviting_again_ends_the_old_link(acme: Organisation, ada: User) -> None:
    old = invited(acme, ada)
    new = invited(acme, ada)
    assert list(Invitation.objects.filter(organisation=acme)) == [new]
    assert old != new


def test_the_members_page_says_what_went_wrong(acme: Organisation, ada: User, alice: User, client: Client) -> None:
    client.force_login(ada)
    response = client.post(
        reverse("accounts:member-invite", kwargs={"slug": acme.slug}), {"email": alice.email, "role": "viewer"}
    )
    assert response.status_code == 422
    assert "is a member already" in response.content.decode()
