from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apimgr.accounts.models import Organisation
from apimgr.contracts.snapshot import PlanDocument
from apimgr.core.errors import DomainError
from portal.services import create_application, issue_credential, revoke_credential, roll_credential
from proxy import tasks
from proxy.models import ChangeCounter, GatewayChange, GatewayNode
from proxy.services import append_changes, compact_changes, forget_removals, forget_secrets
from proxy.services.changes import SECRETS_REMEMBERED, UNTOLD
from tests.locks import somebody_waits
from tests.proxy.control.test_rollout import make_node


def plan(number: int, name: str = "Plan") -> PlanDocument:
    return PlanDocument(id=number, name=name)


@pytest.mark.django_db
def test_numbers_have_no_gaps() -> None:
    assert append_changes([plan(1), plan(2)]) == 2
    assert append_changes([plan(3)], [("plan", "1")]) == 4
    assert list(GatewayChange.objects.order_by("sequence").values_list("sequence", "key")) == [
        (1, "1"),
        (2, "2"),
        (3, "1"),
        (4, "3"),
    ]


@pytest.mark.django_db
def test_what_the_log_says_already_is_not_said_again() -> None:
    append_changes([plan(1)])
    assert append_changes([plan(1)]) == 1
    append_changes(tombstones=[("plan", "1")])
    assert append_changes(tombstones=[("plan", "1")]) == 2
    assert append_changes([plan(1)]) == 3


@pytest.mark.django_db
def test_a_key_no_node_could_store_is_refused() -> None:
    with pytest.raises(DomainError):
        append_changes(tombstones=[("route", "/" + "x" * 600)])


@pytest.mark.django_db(transaction=True)
def test_changes_belong_to_a_transaction() -> None:
    with pytest.raises(RuntimeError):
        append_changes([plan(1)])


@pytest.mark.django_db(transaction=True)
def test_a_rolled_back_change_leaves_no_gap() -> None:
    with transaction.atomic():
        append_changes([plan(1)])
        transaction.set_rollback(True)
    with transaction.atomic():
        assert append_changes([plan(2)]) == 1


@pytest.mark.django_db(transaction=True)
def test_a_reader_never_skips_a_change_that_commits_late() -> None:
    """The slow writer appends first and commits last; a reader who goes by "after N" still sees everything."""
    appended, commit = threading.Event(), threading.Event()

    def slow() -> None:
        with transaction.atomic():
            append_changes([plan(1)])
            appended.set()
            commit.wait(60)
        connection.close()

    def fast() -> None:
        with transaction.atomic():
            append_changes([plan(2)])
        connection.close()

    writers = [threading.Thread(target=slow), threading.Thread(target=fast)]
    writers[0].start()
    assert appended.wait(60)
    writers[1].start()
    seen: list[int] = []

    def read() -> None:
        seen.extend(
            GatewayChange.objects.filter(sequence__gt=seen[-1] if seen else 0)
            .order_by("sequence")
            .values_list("sequence", flat=True)
        )

    for _ in range(20):
        read()
    assert seen == []  # the fast writer waits for the slow one's number to be visible
    commit.set()
    for writer in writers:
        while writer.is_alive():
            read()
        writer.join()
    read()
    assert seen == [1, 2]


@pytest.mark.django_db(transaction=True)
def test_many_writers_and_one_reader_agree() -> None:
    def write(first: int) -> None:
        for number in range(first, first + 15):
            with transaction.atomic():
                append_changes([plan(number)])
        connection.close()

    writers = [threading.Thread(target=write, args=(100 * n,)) for n in range(1, 5)]
    for writer in writers:
        writer.start()
    seen: list[int] = []
    while any(writer.is_alive() for writer in writers) or len(seen) < GatewayChange.objects.count():
        after = seen[-1] if seen else 0
        rows = GatewayChange.objects.filter(sequence__gt=after).order_by("sequence")
        seen.extend(rows.values_list("sequence", flat=True))
    assert seen == list(range(1, 61))


@pytest.mark.django_db
def test_no_writer_waits_while_a_document_is_compared_or_written() -> None:
    append_changes([plan(1, "a"), plan(2, "unchanged " * 50)])
    with CaptureQueriesContext(connection) as asked:
        append_changes([plan(1, "changed " * 50), plan(2, "unchanged " * 50), plan(3, "changed " * 50)])
    statements = [query["sql"] for query in asked]
    lock = next(place for place, sql in enumerate(statements) if "proxy_changecounter" in sql)
    assert sum("changed changed" in sql for sql in statements[:lock]) == 1
    assert len(statements[lock:]) >= 5
    assert not [sql for sql in statements[lock:] if "document" in sql.partition("FROM unnest")[0] or len(sql) > 500]
    assert [change.sequence for change in GatewayChange.objects.order_by("sequence")] == [1, 2, 3, 4]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("wanted", "log"),
    [
        ("was", ["was", "theirs", "was"]),  # what was so before is not so any more
        ("theirs", ["was", "theirs"]),  # what was news is none any more
        ("ours", ["was", "theirs", "ours"]),
        (None, ["was", "theirs", None]),
    ],
)
def test_who_waits_speaks_of_what_was_said_meanwhile(wanted: str | None, log: list[str | None]) -> None:
    def write() -> None:
        with transaction.atomic():
            append_changes([plan(2, "ours"), *([plan(1, wanted)] if wanted else [])], [] if wanted else [("plan", "1")])
        connection.close()

    with transaction.atomic():
        append_changes([plan(1, "was")])
    with transaction.atomic():
        append_changes([plan(1, "theirs")])
        writer = threading.Thread(target=write)
        writer.start()
        while not somebody_waits():
            assert writer.is_alive()
    writer.join()
    changes = list(GatewayChange.objects.order_by("sequence"))
    assert [change.sequence for change in changes] == list(range(1, len(log) + 2))
    told = [change.document and json.loads(change.document)["name"] for change in changes if change.key == "1"]
    assert told == log


@pytest.mark.django_db
def test_compaction_keeps_the_last_word_on_each_key() -> None:
    append_changes([plan(1, "a"), plan(2)])
    append_changes([plan(1, "b")])
    append_changes([plan(1, "c")], [("plan", "2")])
    assert compact_changes() == 0, "a node that is there may not have told yet how far it has read"
    GatewayChange.objects.update(created_at=timezone.now() - UNTOLD)
    away = make_node("away", applied=3)
    assert compact_changes() == 2
    assert GatewayChange.objects.filter(sequence=3).exists(), "it asks for that one when it comes back"
    away.delete()
    assert compact_changes() == 1
    left = {change.key: change for change in GatewayChange.objects.all()}
    assert '"name":"c"' in (left["1"].document or "")
    assert left["2"].document is None
    assert append_changes([plan(3)]) == 6


def age(**passed: float) -> None:
    GatewayChange.objects.update(created_at=timezone.now() - timedelta(**passed))


def log() -> list[tuple[str, bool]]:
    rows = GatewayChange.objects.order_by("sequence").values_list("key", "document")
    return [(key, document is not None) for key, document in rows]


@pytest.mark.django_db
def test_removals_are_forgotten_in_time(settings: Any) -> None:
    settings.GATEWAY_NODE_DAYS = 30
    append_changes([plan(1), plan(2)])
    append_changes(tombstones=[("plan", "1")])
    append_changes(tombstones=[("plan", "2")])
    age(days=29)
    compact_changes()
    tasks.forget_removals()
    assert log() == [("1", False), ("2", False)]
    age(days=31)
    tasks.forget_removals()
    assert log() == [("2", False)], "the last row says where the log is"
    assert ChangeCounter.objects.get().whole_since == 3
    append_changes([plan(3)])
    age(days=31)
    assert (forget_removals(), forget_removals()) == (1, 0)
    assert (log(), ChangeCounter.objects.get().whole_since) == ([("3", True)], 4)


@pytest.mark.django_db
def test_a_removal_stays_as_long_as_it_takes_back_a_row_that_is_there() -> None:
    """Without it the row that a node asks for would be the last word on its key: who reads all anew would take it."""
    append_changes([plan(1)])
    append_changes(tombstones=[("plan", "1")])
    append_changes([plan(2)])
    make_node("asks", applied=1)
    age(days=400)
    compact_changes()
    assert log() == [("1", True), ("1", False), ("2", True)]
    assert forget_removals() == 0
    GatewayNode.objects.all().delete()
    compact_changes()
    assert forget_removals() == 1
    assert log() == [("2", True)]


@pytest.mark.django_db
def test_a_secret_that_ended_long_ago_is_not_spoken_of_for_ever(builders: Organisation) -> None:
    application = create_application(actor=None, organisation=builders, name="Shop")
    key, _ = issue_credential(actor=None, application=application)
    for _ in range(3):
        key, _ = roll_credential(actor=None, credential=key, overlap=timedelta(days=1))
    other, _ = issue_credential(actor=None, application=application)
    revoke_credential(actor=None, credential=other)
    told = GatewayChange.objects.filter(kind="credential", document__isnull=False)
    age(seconds=SECRETS_REMEMBERED.total_seconds() - 60)
    compact_changes()
    assert forget_secrets() == 0
    assert told.count() == 5
    age(seconds=SECRETS_REMEMBERED.total_seconds() + 60)
    tasks.forget_secrets()
    compact_changes()
    digests = [bytes(digest).hex() for digest in (key.digest, key.former_digest or b"", other.digest)]
    assert set(told.values_list("key", flat=True)) == set(digests), "a revoked key is told for good that it is"
    assert forget_secrets() == 0
    append_changes([plan(1)])
    age(days=31)
    compact_changes()
    assert forget_removals() == 2
    assert GatewayChange.objects.filter(kind="credential").count() == 3
