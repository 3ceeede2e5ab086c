"""Every error under /api/ is a problem document (RFC 9457): status, code, one sentence, a request id, and no more."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from django import forms
from django.http import HttpResponse
from django.test import Client, RequestFactory
from rest_framework.exceptions import ValidationError

from apimgr.accounts.models import Organisation, User
from apimgr.accounts.services import issue_api_token
from apimgr.core.errors import Conflict, DomainError, NotAllowed, NotFound
from apimgr.core.forms import show_error
from apimgr.core.rest import problem_response

pytestmark = pytest.mark.django_db


@pytest.fixture
def api(alice: User, acme: Organisation) -> Client:
    _token, secret = issue_api_token(actor=alice, organisation=acme, name="Script")
    return Client(headers={"Authorization": f"Bearer {secret}"}, raise_request_exception=False)


def check(response: HttpResponse, status: int, code: str = "") -> dict[str, object]:
    assert response.status_code == status
    assert response["Content-Type"].startswith("application/problem+json")
    body: dict[str, object] = response.json()
    assert body["type"] == "about:blank"
    assert body["title"]
    assert body["status"] == status
    assert body["code"] == code or not code
    assert body["detail"]
    assert body["fix"]
    assert body["request_id"] == response["X-Request-Id"]
    return body


def test_an_unknown_path(api: Client) -> None:
    for path in ("/api/v1/nothing", "/api/v1/", "/api/v2/apis", "/api/v1/organisations/none"):
        check(api.get(path), 404, "not_found")


def test_an_unknown_path_tells_a_stranger_no_more(client: Client) -> None:
    check(client.get("/api/v1/nothing"), 404, "not_found")


def test_a_method_that_is_not_served(api: Client) -> None:
    response = api.delete("/api/v1/me")
    check(response, 405, "method_not_allowed")
    assert "GET" in response["Allow"]


def test_a_body_that_is_not_json_says_where(api: Client, acme: Organisation) -> None:
    path = f"/api/v1/organisations/{acme.slug}/tokens"
    body = check(api.post(path, '{"name": }', content_type="application/json"), 400, "parse_error")
    assert "column 10" in str(body["detail"])


def test_a_media_type_that_is_not_read(api: Client, acme: Organisation) -> None:
    path = f"/api/v1/organisations/{acme.slug}/tokens"
    check(api.post(path, "<x/>", content_type="application/xml"), 415, "unsupported_media_type")


def test_a_media_type_that_is_not_written(api: Client) -> None:
    check(api.get("/api/v1/me", headers={"Accept": "text/csv"}), 406, "not_acceptable")


def test_fields_that_are_not_right(api: Client, acme: Organisation) -> None:
    path = f"/api/v1/organisations/{acme.slug}/tokens"
    body = check(api.post(path, {"name": ""}, content_type="application/json"), 422, "invalid")
    assert list(body["fields"]) == ["name"]  # type: ignore[call-overload]


def test_a_role_that_does_not_allow_it(api: Client, acme: Organisation) -> None:
    body = check(api.get(f"/api/v1/organisations/{acme.slug}/invitations"), 403, "not_allowed")
    assert "Ask an administrator" in str(body["fix"])


def test_a_bug_tells_nothing_of_itself(api: Client) -> None:
    with patch("apimgr.accounts.api.views.role_of", side_effect=RuntimeError("the secret inside")):
        response = api.get("/api/v1/me")
    check(response, 500, "internal_error")
    assert b"secret" not in response.content
    assert b"Traceback" not in response.content


def test_server_owned_fields_are_not_taken_from_the_caller(api: Client, acme: Organisation, ada: User) -> None:
    owned = {"user": str(ada.pk), "prefix": "x", "digest": "x", "revoked_at": None, "last4": "xxxx"}
    answer = api.post(
        f"/api/v1/organisations/{acme.slug}/tokens", {"name": "Script", **owned}, content_type="application/json"
    )
    assert list(check(answer, 400, "unknown_field")["fields"]) == list(owned)  # type: ignore[call-overload]


def test_a_misspelt_name_is_told_what_may_be_meant(api: Client, acme: Organisation) -> None:
    sent = {"name": "Script", "expires_on": "2030-01-01", "zzz": 1}
    answer = api.post(f"/api/v1/organisations/{acme.slug}/tokens", sent, content_type="application/json")
    assert check(answer, 400, "unknown_field")["fields"] == {
        "expires_on": "It is not known. Did you mean expires_at? Known are: name, expires_at.",
        "zzz": "It is not known. Known are: name, expires_at.",
    }
    asked = check(api.get("/api/v1/subscriptions?States=requested"), 400, "unknown_parameter")
    assert "Did you mean state?" in str(asked["fields"])


def test_an_answer_about_many_unknown_names_stays_short(api: Client, acme: Organisation) -> None:
    sent = {f"{number}-" + "x" * 1_000: 1 for number in range(100)}
    for answer in (
        api.post(f"/api/v1/organisations/{acme.slug}/tokens", sent, content_type="application/json"),
        api.get("/api/v1/apis", dict(list(sent.items())[:20])),
    ):
        fields = check(answer, 400)["fields"]
        assert isinstance(fields, dict)
        assert len(fields) == 10
        assert max(map(len, fields)) == 60


def test_paging_by_id_repeats_nothing_and_misses_nothing(api: Client, alice: User, acme: Organisation) -> None:
    for number in range(5):
        issue_api_token(actor=alice, organisation=acme, name=f"Token {number}")
    path, seen = f"/api/v1/organisations/{acme.slug}/tokens?limit=2", []
    while path:
        page = api.get(path).json()
        seen += [token["name"] for token in page["results"]]
        path = page["next"]
        issue_api_token(actor=alice, organisation=acme, name="Made meanwhile")
    assert seen == ["Token 4", "Token 3", "Token 2", "Token 1", "Token 0", "Script"]


@pytest.mark.parametrize("error", [DomainError("No."), NotFound("No."), NotAllowed("No."), Conflict("No.")])
def test_services_errors_keep_their_status(error: DomainError) -> None:
    response = problem_response(error, {"request": RequestFactory().get("/")})
    assert response is not None
    assert (response.status_code, response.data["code"]) == (error.status, error.code)


def test_a_list_of_sentences_is_one_sentence() -> None:
    response = problem_response(ValidationError(["One.", "Two."]), {"request": RequestFactory().get("/")})
    assert response is not None
    assert response.data["detail"] == "One. Two."


class _Form(forms.Form):
    name = forms.CharField()


def test_a_form_shows_an_error_where_it_belongs() -> None:
    form = _Form({"name": "x"})
    show_error(form, DomainError("Taken.", fields={"name": "Choose another name.", "gone": "x"}))
    assert form.errors == {"name": ["Choose another name."]}
    form = _Form({"name": "x"})
    show_error(form, DomainError("Not now.", fix="Wait."))
    assert form.non_field_errors() == ["Not now. Wait."]
