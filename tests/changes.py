"""What gateways were told, as the log of changes has it."""

from __future__ import annotations

from typing import Any

from apimgr.contracts import snapshot
from proxy.models import GatewayChange


def is_spoken_of(kind: str, key: str | int) -> bool:
    return GatewayChange.objects.filter(kind=kind, key=str(key)).exists()


def last_word(kind: str, key: str | int) -> Any:
    """The document that holds by now, or ``None`` for what is gone. Fails for what was never spoken of."""
    document = GatewayChange.objects.filter(kind=kind, key=str(key)).latest("sequence").document
    return snapshot.load(document) if document else None
