"""Keys that were found in public are stopped, by whoever reports them (K10)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.core.cache import caches
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page

from apimgr.accounts.models import Role
from apimgr.accounts.services import disable_user
from apimgr.audit.models import AuditEntry
from apimgr.celery import app, beat_schedule
from apimgr.contracts.credentials import generate_key
from portal import services, tasks
from portal.models import Credential, LeakNotice
from portal.services import leaks
from tests.access import World, make_world
from tests.browser import every_look, look, sign_in
from tests.factories import make_member, make_user
from tests.leaks import rows_with

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh_throttle() -> Iterator[None]:
    caches["throttle"].clear()
    yield
    caches["throttle"].clear()


def report(world: World, person: str, **body: Any) -> Any:
    headers = {"Authorization": f"Bearer {world.secrets[person]}"}
    return Client().post(reverse("api-leaks"), body, content_type="application/json", headers=headers)


def issued(world: World) -> tuple[Credential, str]:
    credential, key = services.issue_credential(actor=world.people["dev"], application=world.application)
    return credential, key.secret


@pytest.mark.requirement("K10.2")
def test_a_stranger_s_report_stops_what_works() -> None:
    world = make_world()
    (first, one), (second, other) = issued(world), issued(world)
    services.revoke_credential(actor=world.people["dev"], credential=second)
    nothing = [generate_key("ak").secret, one[:-1], "x", "é"]
    answer = report(world, "charlie", keys=[one, other, one, *nothing], found_at="https://git.example/leak")
    assert (answer.status_code, answer.json()) == (200, {"stopped": 1})
    first.refresh_from_db()
    assert first.standing == "revoked"
    entry = AuditEntry.objects.get(action="portal.credential.leaked")
    assert (entry.actor, entry.organisation_id) == (world.people["charlie"], world.builders.pk)
    assert entry.sentence == f"Charlie reported the key {first} of Shop as leaked: https://git.example/leak"
    assert report(world, "charlie", keys=[one]).json() == {"stopped": 0}
    assert rows_with([one.rpartition("_")[2][6:43]]) == [], "what was reported is not kept"


@pytest.mark.requirement("K10.2")
def test_a_former_secret_ends_alone() -> None:
    world = make_world()
    credential, old = issued(world)
    rolled, _ = services.roll_credential(actor=world.people["dev"], credential=credential, overlap=timedelta(hours=1))
    assert report(world, "rita", keys=[old]).json() == {"stopped": 1}
    rolled.refresh_from_db()
    assert (rolled.standing, rolled.is_rotating) == ("active", False)
    assert report(world, "rita", keys=[old]).json() == {"stopped": 0}


@pytest.mark.requirement("K10.2")
def test_reports_are_bounded() -> None:
    world = make_world()
    assert report(world, "dev", keys=[]).status_code == 422
    assert report(world, "dev", keys=["x"] * 101).status_code == 422
    assert Client().post(reverse("api-leaks"), {"keys": ["x"]}, content_type="application/json").status_code == 401
    answers = [report(world, "charlie", keys=["x"]) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429]
    assert answers[-1].headers["Retry-After"]
    assert report(world, "rita", keys=["x"]).status_code == 200, "each token has a count of its own"


# --- What the owners hear ------------------------------------------------------------------------------------------


def hidden(secret: str) -> str:
    """What no one may read again: all but the part shown for recognition."""
    return secret.rpartition("_")[2][6:43]


@pytest.mark.requirement("K10.3")
def test_every_owner_is_told_by_mail_once() -> None:
    world = make_world()
    credential, secret = issued(world)
    make_member(make_user("deborah"), world.builders, Role.DEVELOPER)
    make_member(make_user("vera"), world.builders, Role.VIEWER)
    left = make_member(make_user("leo"), world.builders, Role.DEVELOPER).user
    disable_user(actor=None, user=left)
    report(world, "charlie", keys=[secret], found_at="https://git.example/leak\n\nPay here")
    assert mail.outbox == [], "nothing is sent while the key is being stopped"
    for _ in range(2):
        tasks.mail_leak_notices()
    assert sorted(message.to for message in mail.outbox) == [["deborah@example.com"], ["dev@example.com"]]
    message = mail.outbox[0]
    assert message.subject == f"Key {credential} of Shop has leaked and was stopped"
    for part in (
        str(credential),
        "The key was revoked at",
        "whoever reported it: https://git.example/leak Pay here\n",
        f"/apps/{world.application.public_id}/\n",
        f"/apps/{world.application.public_id}/requests/\n",
    ):
        assert part in message.body
    assert not any(hidden(secret) in str(each.message()) for each in mail.outbox)
    assert not LeakNotice.objects.exists()


def page_of_dev(world: World) -> str:
    client = Client()
    client.force_login(world.people["dev"])
    return client.get(reverse("portal:application", args=[world.application.pk])).content.decode()


@pytest.mark.requirement("K10.3")
def test_the_key_itself_says_that_it_leaked() -> None:
    world = make_world()
    (credential, secret), (rolled, old) = issued(world), issued(world)
    services.roll_credential(actor=world.people["dev"], credential=rolled, overlap=timedelta(hours=1))
    assert "leaked" not in page_of_dev(world)
    report(world, "charlie", keys=[secret])
    assert "Reported as leaked" in page_of_dev(world)
    assert "Its old key was" not in page_of_dev(world)
    report(world, "charlie", keys=[old])
    assert "Its old key was reported as leaked" in page_of_dev(world)
    path = reverse("api-credential", args=[credential.pk])
    told = Client().get(path, headers={"Authorization": f"Bearer {world.secrets['dev']}"}).json()
    assert told["standing"] == "revoked"
    assert told["leaked_at"]


@every_look
def test_the_page_with_leaked_keys_looks_right(browser_page: Page, live_server: Any) -> None:
    world = make_world()
    (_, secret), (rolled, old) = issued(world), issued(world)
    services.roll_credential(actor=world.people["dev"], credential=rolled, overlap=timedelta(hours=1))
    report(world, "charlie", keys=[secret, old])
    sign_in(browser_page, live_server, world.people["dev"])
    browser_page.goto(f"{live_server.url}/apps/{world.application.public_id}/")
    look(browser_page, "application-leaked")


@pytest.mark.requirement("K10.3")
def test_of_a_former_secret_it_is_said_what_goes_on() -> None:
    world = make_world()
    credential, old = issued(world)
    rolled, key = services.roll_credential(actor=world.people["dev"], credential=credential, overlap=timedelta(hours=1))
    report(world, "rita", keys=[old])
    tasks.mail_leak_notices()
    (message,) = mail.outbox
    assert rolled.former in message.subject
    assert "the present secret works on" in message.body
    assert "revoked" not in message.body
    assert "whoever reported it:" not in message.body
    assert not any(hidden(each) in str(message.message()) for each in (old, key.secret))


@pytest.mark.requirement("K10.2", "K10.3")
def test_a_key_in_what_the_finder_wrote_is_not_repeated() -> None:
    world = make_world()
    _credential, secret = issued(world)
    report(world, "charlie", keys=[secret], found_at=f"https://git.example/?key={secret}&x=1")
    tasks.mail_leak_notices()
    assert f"https://git.example/?key={secret[:14]}…&x=1" in mail.outbox[0].body
    assert hidden(secret) not in str(mail.outbox[0].message())
    assert rows_with([hidden(secret)]) == []


def test_a_key_that_worked_no_more_is_no_news() -> None:
    world = make_world()
    credential, secret = issued(world)
    services.revoke_credential(actor=world.people["dev"], credential=credential)
    report(world, "charlie", keys=[secret])
    tasks.mail_leak_notices()
    assert mail.outbox == []


def test_what_no_server_takes_waits_three_days(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world()
    _credential, secret = issued(world)
    report(world, "charlie", keys=[secret])
    with monkeypatch.context() as away:
        away.setattr(leaks, "send_mail", _no_server)
        assert services.mail_leak_notices() == 0
    assert services.mail_leak_notices() == 1
    report(world, "charlie", keys=[issued(world)[1]])
    LeakNotice.objects.update(created_at=timezone.now() - leaks.TRIED_FOR - timedelta(seconds=1))
    assert services.mail_leak_notices() == 0
    assert not LeakNotice.objects.exists()


def _no_server(*args: object) -> int:
    raise ConnectionRefusedError


def test_beat_sends_them() -> None:
    assert beat_schedule()["portal.mail_leak_notices"]["task"] in app.tasks
