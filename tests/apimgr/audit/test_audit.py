from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.db import DatabaseError, transaction
from django.test import Client
from django.urls import reverse

from apimgr.accounts.models import Organisation, User
from apimgr.audit.models import AuditEntry
from apimgr.audit.sentences import ACTION
from apimgr.audit.services import record

pytestmark = pytest.mark.django_db


def noted(organisation: Organisation, action: str = "catalog.version.published", **data: str) -> AuditEntry:
    return record(actor=None, action=action, target=organisation, organisation_id=organisation.pk, **data)


@pytest.mark.parametrize("action", ["", "published", "catalog.published", "Catalog.version.published", "a.b.c.d"])
def test_an_action_has_three_words(acme: Organisation, action: str) -> None:
    with pytest.raises(ValueError):
        noted(acme, action)


def test_an_action_without_a_sentence_still_reads(acme: Organisation) -> None:
    assert noted(acme, "somewhere.thing.turned_over").sentence == "The platform turned over thing Acme"


def test_an_old_entry_without_a_word_of_its_sentence_still_reads(acme: Organisation) -> None:
    assert noted(acme, "accounts.member.added").sentence == "The platform added member Acme"


def test_every_action_in_the_code_can_be_told() -> None:
    sources = (
        path
        for top in ("apimgr", "portal", "analytics", "proxy")
        for path in Path(settings.BASE_DIR, top).rglob("*.py")
    )
    actions = {action for path in sources for action in re.findall(r'\baction="([^"]+\.[^"]+)"', path.read_text())}
    assert len(actions) > 10
    assert {action for action in actions if not ACTION.fullmatch(action)} == set()


def test_entries_are_neither_changed_nor_deleted(acme: Organisation) -> None:
    entry = noted(acme)
    with pytest.raises(DatabaseError), transaction.atomic():
        AuditEntry.objects.filter(pk=entry.pk).update(action="catalog.version.retired")
    with pytest.raises(DatabaseError), transaction.atomic():
        entry.delete()
    assert AuditEntry.objects.get(pk=entry.pk).action == "catalog.version.published"


def test_an_entry_outlives_what_it_is_about(acme: Organisation) -> None:
    entry = noted(acme)
    acme.delete()
    assert AuditEntry.objects.get(pk=entry.pk).target_name == "Acme"


def test_the_page_shows_ones_own_trail_page_by_page(
    client: Client, acme: Organisation, builders: Organisation, ada: User
) -> None:
    noted(builders, "portal.application.created")
    for _ in range(51):
        noted(acme)
    client.force_login(ada)
    path = reverse("accounts:audit", kwargs={"slug": acme.slug})
    first = client.get(path)
    assert len(first.context["entries"]) == 50
    second = client.get(path, {"before": first.context["older"]})
    assert len(second.context["entries"]) == 1
    assert not second.context["older"]
    assert "portal.application.created" not in (first.content + second.content).decode()
    assert client.get(path, {"before": "nonsense"}).status_code == 200


def test_names_are_escaped(client: Client, acme: Organisation, ada: User) -> None:
    Organisation.objects.filter(pk=acme.pk).update(name="<script>alert(1)</script>")
    acme.refresh_from_db()
    noted(acme)
    client.force_login(ada)
    assert "<script>alert" not in client.get(reverse("accounts:audit", kwargs={"slug": acme.slug})).content.decode()
