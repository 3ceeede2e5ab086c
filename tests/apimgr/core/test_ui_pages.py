from __future__ import annotations

import pytest
from django.test import Client, RequestFactory

from apimgr.accounts.models import User
from apimgr.core import navigation, views
from apimgr.core.errors import Conflict


def sections_of(user: User, path: str = "/console/") -> list[navigation.Section]:
    request = RequestFactory().get(path)
    request.user = user
    return navigation.sections(request)


def test_the_sidebar_follows_the_role(alice: User, dev: User, olga: User) -> None:
    assert [section.name for section in sections_of(alice)] == ["console", "insights", "apps", "organisation"]
    assert [section.name for section in sections_of(dev)] == ["apps", "organisation"]
    assert "console" not in [section.name for section in sections_of(olga)]


def test_exactly_one_entry_is_current(alice: User) -> None:
    current = [e.name for s in sections_of(alice, "/console/apis/orders/versions/") for e in s.entries if e.is_current]
    assert current == ["catalog:apis"]


def test_the_theme_is_remembered_and_leads_back_inside_only(client: Client) -> None:
    inside = client.post("/theme", {"theme": "dark", "next": "/styleguide?x=1"})
    assert (inside.status_code, inside["Location"], inside.cookies["theme"].value) == (302, "/styleguide?x=1", "dark")
    assert client.post("/theme", {"theme": "dark", "next": "https://evil.example/"})["Location"] == "/"
    assert client.post("/theme", {"theme": "mauve"}).status_code == 400


@pytest.mark.django_db
def test_health_says_whether_the_database_answers(client: Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}


def test_an_error_page_names_the_request(client: Client) -> None:
    response = client.get("/nowhere-at-all")
    assert response.status_code == 404
    assert response["X-Request-Id"] in response.content.decode()


def test_a_refusal_becomes_a_page_with_its_way_out() -> None:
    error = Conflict("The version is retired.", fix="Add another one.")
    response = views.domain_error(RequestFactory().get("/"), error)
    assert response.status_code == 409
    assert "Add another one." in response.content.decode()
