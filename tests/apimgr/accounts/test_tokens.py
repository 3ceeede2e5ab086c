from __future__ import annotations

from datetime import timedelta
from unittest.mock import patch

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apimgr.accounts.access import Permission, organisations_for
from apimgr.accounts.models import ApiToken, Organisation, Role, User
from apimgr.accounts.rest import TokenThrottle
from apimgr.accounts.services import issue_api_token, revoke_api_token
from apimgr.audit.models import AuditEntry
from apimgr.contracts.credentials import generate_key, is_well_formed
from apimgr.core.errors import DomainError, NotAllowed, NotFound
from tests.factories import make_member

pytestmark = pytest.mark.django_db
ME = "/api/v1/me"


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def secret(alice: User, acme: Organisation) -> str:
    return issue_api_token(actor=alice, organisation=acme, name="Script")[1]


def test_a_token_says_who_it_is(client: Client, alice: User, acme: Organisation, secret: str) -> None:
    answer = client.get(ME, headers=bearer(secret)).json()
    assert answer["person"]["email"] == alice.email
    assert answer["organisation"]["slug"] == acme.slug
    assert answer["role"] == Role.PUBLISHER
    assert "api.publish" in answer["permissions"]
    assert "member.manage" not in answer["permissions"]


def test_only_a_digest_is_stored(secret: str) -> None:
    assert is_well_formed(secret.encode())
    token = ApiToken.objects.get()
    assert secret not in repr(vars(token))
    assert secret not in repr(list(AuditEntry.objects.values()))
    assert len(token.digest) == 32


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer x", "Basic abc", "Bearer a b", "bearer " + "x" * 5000, "Bearer é"]
)
def test_what_is_no_token_costs_no_look_up(client: Client, header: str) -> None:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        response = client.get(ME, headers={"Authorization": header})
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == 'Bearer realm="apimgr"'
    assert response["Content-Type"] == "application/problem+json"
    assert not queries.captured_queries


def test_no_token_is_unauthorised(client: Client) -> None:
    response = client.get(ME)
    assert response.status_code == 401
    assert response["WWW-Authenticate"].startswith("Bearer")


def test_a_session_opens_no_api(client: Client, alice: User) -> None:
    """No cookie is read, so no other site can make a browser change anything (P7)."""
    client.force_login(alice)
    assert client.get(ME).status_code == 401


def test_dead_tokens_are_all_refused_alike(client: Client, alice: User, acme: Organisation, secret: str) -> None:
    token = ApiToken.objects.get()
    answers = {client.get(ME, headers=bearer(generate_key("apimgr").secret)).json()["detail"]}
    revoke_api_token(actor=alice, token=token)
    answers.add(client.get(ME, headers=bearer(secret)).json()["detail"])
    ApiToken.objects.update(revoked_at=None, expires_at=timezone.now() - timedelta(seconds=1))
    answers.add(client.get(ME, headers=bearer(secret)).json()["detail"])
    ApiToken.objects.update(expires_at=None)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    answers.add(client.get(ME, headers=bearer(secret)).json()["detail"])
    User.objects.filter(pk=alice.pk).update(is_active=True)
    alice.memberships.all().delete()
    answers.add(client.get(ME, headers=bearer(secret)).json()["detail"])
    assert len(answers) == 1


def test_a_token_acts_in_its_own_organisation_alone(
    client: Client, alice: User, acme: Organisation, builders: Organisation, secret: str
) -> None:
    make_member(alice, builders, Role.ADMINISTRATOR)
    assert client.get(f"/api/v1/organisations/{builders.slug}/members", headers=bearer(secret)).status_code == 404
    assert client.get(f"/api/v1/organisations/{acme.slug}/members", headers=bearer(secret)).status_code == 200
    listed = client.get("/api/v1/organisations", headers=bearer(secret)).json()["results"]
    assert [organisation["slug"] for organisation in listed] == [acme.slug]


def test_the_confined_person_is_confined_everywhere(alice: User, acme: Organisation, builders: Organisation) -> None:
    make_member(alice, builders, Role.ADMINISTRATOR)
    alice.acting_in = builders.pk
    assert list(organisations_for(alice, Permission.MEMBERSHIP_OWN)) == [builders]
    assert not organisations_for(alice, Permission.API_EDIT).exists()
    with pytest.raises(NotFound):
        issue_api_token(actor=alice, organisation=acme, name="Elsewhere")


def test_last_use_is_noted_once_a_minute(client: Client, secret: str) -> None:
    client.get(ME, headers=bearer(secret))
    first = ApiToken.objects.get().last_used_at
    assert first is not None
    client.get(ME, headers=bearer(secret))
    assert ApiToken.objects.get().last_used_at == first
    ApiToken.objects.update(last_used_at=first - timedelta(minutes=2))
    client.get(ME, headers=bearer(secret))
    assert ApiToken.objects.get().last_used_at >= first


def test_a_token_is_throttled_and_told_when_to_come_back(client: Client, secret: str) -> None:
    with patch.object(TokenThrottle, "THROTTLE_RATES", {"token": "2/min"}):
        statuses = [client.get(ME, headers=bearer(secret)) for _ in range(3)]
    assert [response.status_code for response in statuses] == [200, 200, 429]
    assert 0 < int(statuses[-1]["Retry-After"]) <= 60
    assert statuses[-1].json()["code"] == "throttled"


def test_roles_without_the_right_get_no_token(acme: Organisation, victor: User, charlie: User) -> None:
    with pytest.raises(NotAllowed):
        issue_api_token(actor=victor, organisation=acme, name="Script")
    with pytest.raises(NotFound):
        issue_api_token(actor=charlie, organisation=acme, name="Script")


def test_a_token_needs_a_name_and_a_future(alice: User, acme: Organisation) -> None:
    with pytest.raises(DomainError):
        issue_api_token(actor=alice, organisation=acme, name="  ")
    with pytest.raises(DomainError):
        issue_api_token(actor=alice, organisation=acme, name="Script", expires_at=timezone.now())


def test_a_token_made_by_a_token_expires_with_it(client: Client, alice: User, acme: Organisation) -> None:
    end = timezone.now() + timedelta(days=1)
    _token, secret = issue_api_token(actor=alice, organisation=acme, name="Script", expires_at=end)
    path = f"/api/v1/organisations/{acme.slug}/tokens"
    answer = client.post(path, {"name": "Child"}, headers=bearer(secret), content_type="application/json")
    assert answer.status_code == 201
    assert ApiToken.objects.get(name="Child").expires_at == end
    assert client.get(ME, headers=bearer(answer.json()["secret"])).status_code == 200
    assert "secret" not in client.get(path, headers=bearer(secret)).json()["results"][0]


def test_the_page_shows_the_secret_once(client: Client, alice: User, acme: Organisation) -> None:
    client.force_login(alice)
    path = reverse("accounts:tokens", kwargs={"slug": acme.slug})
    response = client.post(path, {"name": "Script", "days": "30"})
    found = [word for word in response.content.decode().split('"') if is_well_formed(word.encode())]
    assert found
    assert "no-store" in response["Cache-Control"]
    assert client.get(ME, headers=bearer(found[0])).status_code == 200
    assert found[0] not in client.get(path).content.decode()


def test_one_sees_ones_own_tokens_and_the_administrator_all(
    client: Client, acme: Organisation, alice: User, ada: User, secret: str
) -> None:
    issue_api_token(actor=ada, organisation=acme, name="Ada's")
    path = reverse("accounts:tokens", kwargs={"slug": acme.slug})
    client.force_login(alice)
    assert "Ada&#x27;s" not in client.get(path).content.decode()
    client.force_login(ada)
    assert "Script" in client.get(path).content.decode()
    alices = ApiToken.objects.get(user=alice)
    revoke_api_token(actor=ada, token=alices)
    assert ApiToken.objects.get(user=alice).state == "revoked"
