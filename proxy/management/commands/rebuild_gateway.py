from __future__ import annotations

from itertools import islice
from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction

from proxy import compiler
from proxy.services import append_changes

BATCH = 500


class Command(BaseCommand):
    help = "Compiles everything gateways must know from the rows, for data that was written without services."

    def handle(self, *args: Any, **options: Any) -> None:
        documents = compiler.everything()
        total = 0
        while batch := list(islice(documents, BATCH)):
            with transaction.atomic():
                append_changes(batch)
            total += len(batch)
        self.stdout.write(f"{total} documents compiled.")
