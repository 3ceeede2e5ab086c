from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from django.db import transaction
from pytest_django import DjangoCaptureOnCommitCallbacks

from apimgr.accounts.models import Organisation
from apimgr.core import events
from apimgr.core.events import Event, emit, receives


@dataclass(frozen=True, slots=True)
class Happened(Event):
    name: str


@dataclass(frozen=True, slots=True)
class AlsoHappened(Event):
    name: str


@pytest.fixture(autouse=True)
def no_leftovers() -> Iterator[None]:
    yield
    for registry in (events._inside, events._after):
        registry.pop(Happened, None)
        registry.pop(AlsoHappened, None)


@transaction.atomic
def _change_and_tell() -> None:
    Organisation.objects.create(name="Change", slug="change")
    emit(Happened("a"))


@transaction.atomic
def _tell_and_fail() -> None:
    emit(Happened("a"))
    raise LookupError


@pytest.mark.django_db
def test_a_reaction_runs_at_once_for_each_fact_it_asked_for() -> None:
    heard: list[Event] = []
    receives(Happened, AlsoHappened)(heard.append)
    emit(Happened("a"))
    emit(AlsoHappened("b"))
    assert heard == [Happened("a"), AlsoHappened("b")]


@pytest.mark.django_db
def test_a_failing_reaction_undoes_the_change() -> None:
    @receives(Happened)
    def fail(event: Happened) -> None:
        Organisation.objects.create(name="Reaction", slug="reaction")
        raise LookupError

    with pytest.raises(LookupError):
        _change_and_tell()
    assert not Organisation.objects.filter(slug__in=["change", "reaction"]).exists()


@pytest.mark.django_db
def test_what_waits_for_the_commit_waits(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    heard: list[Event] = []
    receives(Happened, after_commit=True)(heard.append)
    with django_capture_on_commit_callbacks() as callbacks:
        emit(Happened("a"))
    assert heard == []
    for callback in callbacks:
        callback()
    assert heard == [Happened("a")]


@pytest.mark.django_db(transaction=True)
def test_a_fact_outside_a_transaction_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match="outside a transaction"):
        emit(Happened("a"))


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_is_never_told_afterwards() -> None:
    heard: list[Event] = []
    receives(Happened, after_commit=True)(heard.append)
    with pytest.raises(LookupError):
        _tell_and_fail()
    assert heard == []
    with transaction.atomic():
        emit(Happened("b"))
    assert heard == [Happened("b")]
