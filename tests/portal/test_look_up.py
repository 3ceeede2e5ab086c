"""Whose key is this? On the page and by REST, by the same selector: publishers find their consumers', operators all."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from apimgr.accounts.models import Organisation, User
from apimgr.accounts.services import issue_api_token, own_organisation
from apimgr.products.models import Plan
from portal import services
from portal.models import Application, Credential

PATH = "/api/v1/keys/look-up"


@pytest.fixture
def keys(dev: User, builders: Organisation, plan: Plan) -> dict[str, str]:
    """One of an application that calls Orders, one of another that calls nothing."""
    found = {}
    for name in ("Shop", "Till"):
        application = Application.objects.create(organisation=builders, name=name)
        if name == "Shop":
            services.subscribe(actor=dev, application=application, plan=plan)
        found[name] = services.issue_credential(actor=dev, application=application)[1].secret
    return found


def look_up(user: User, organisation: Organisation, text: Any) -> Any:
    _token, secret = issue_api_token(actor=user, organisation=organisation, name="Look-up")
    client = Client(headers={"Authorization": f"Bearer {secret}"})
    return client.post(PATH, {"key": text}, content_type="application/json")


def names(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [row["application"]["name"] for row in answer.json()]


@pytest.mark.parametrize("length", [None, len("ak_live_") + 6, len("ak_live_") + 3])
def test_a_publisher_finds_the_keys_of_consumers(
    alice: User, acme: Organisation, keys: dict[str, str], length: int | None
) -> None:
    assert names(look_up(alice, acme, keys["Shop"][:length])) == ["Shop"]
    assert names(look_up(alice, acme, keys["Till"][:length])) == []


def test_a_rolled_key_is_found_by_both_its_secrets(
    alice: User, acme: Organisation, dev: User, keys: dict[str, str]
) -> None:
    credential = Credential.objects.get(application__name="Shop")
    _credential, issued = services.roll_credential(actor=dev, credential=credential, overlap=timedelta(days=1))
    for secret in (keys["Shop"], issued.secret):
        assert names(look_up(alice, acme, secret)) == ["Shop"]


def test_an_operator_finds_every_key(olga: User, keys: dict[str, str], client: Client) -> None:
    client.force_login(olga)
    for name, secret in keys.items():
        answer = look_up(olga, own_organisation(olga), secret)
        assert names(answer) == [name]
        (row,) = answer.json()
        assert (row["application"]["organisation"], row["state"]) == ("builders", "active")
        assert secret not in answer.content.decode()
        page = client.post("/console/keys/", {"key": secret}).content.decode()
        assert name in page
        assert secret not in page


def test_a_developer_may_not_ask(dev: User, builders: Organisation, keys: dict[str, str], client: Client) -> None:
    answer = look_up(dev, builders, keys["Shop"])
    assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")
    client.force_login(dev)
    assert client.get("/console/keys/").status_code == 403


@pytest.mark.parametrize("text", ["nonsense", "ak_live_", "%", "ak_live_%", "_" * 20])
def test_what_begins_no_key_finds_none(alice: User, acme: Organisation, keys: dict[str, str], text: str) -> None:
    assert names(look_up(alice, acme, text)) == []


@pytest.mark.parametrize("text", ["", None, ["ak_live_AbC"], "x" * 201])
def test_what_is_no_text_is_refused(alice: User, acme: Organisation, text: Any) -> None:
    assert look_up(alice, acme, text).status_code == 422


def test_looking_changes_nothing(alice: User, acme: Organisation, keys: dict[str, str]) -> None:
    before = list(Credential.objects.order_by("pk").values())
    look_up(alice, acme, keys["Shop"])
    assert list(Credential.objects.order_by("pk").values()) == before
