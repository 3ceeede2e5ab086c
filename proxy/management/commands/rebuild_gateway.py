from __future__ import annotations

from itertools import islice
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from apimgr.catalog.models import Version
from apimgr.contracts.snapshot import KIND_OF, Document
from apimgr.core.errors import DomainError
from apimgr.core.ids import encode_id
from apimgr.products.models import Plan
from proxy import compiler
from proxy.services import Overtaken, append_changes, last_said

BATCH = 500


class Command(BaseCommand):
    help = (
        "Compiles everything gateways must know from the rows, for data that was written without services. What no "
        "gateway would take is reported and stays as gateways know it; the command then fails once all else is told."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        self._unfit = total = 0
        self._began = last_said()
        documents = compiler.everything(self._report)
        while batch := list(islice(documents, BATCH)):
            with transaction.atomic():
                self._append(batch)
            total += len(batch)
        self.stdout.write(f"{total} documents compiled.")
        if self._unfit:
            raise CommandError(
                f"{self._unfit} could not be compiled and stay as gateways know them; they are named above."
            )

    def _append(self, documents: list[Document]) -> None:
        """All but what others spoke of since this began: they know later rows, in which a key may be revoked."""
        try:
            append_changes(documents, as_of=self._began)
        except Overtaken as by_others:
            append_changes(item for item in documents if (KIND_OF[type(item)], item.key) not in by_others.entries)

    def _report(self, thing: Version | Plan, refused: DomainError) -> None:
        self._unfit += 1
        self.stderr.write(f"{_named(thing)}: {refused.in_full}")


def _named(thing: Version | Plan) -> str:
    kind, owned = ("version", thing.api) if isinstance(thing, Version) else ("plan", thing.product)
    return f"{kind} {thing.name} of {owned.name} by {owned.organisation.name} ({encode_id(thing.pk)})"
