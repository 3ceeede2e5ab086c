"""What happened: the ledger of shipped batches, the calls themselves, and their rollups."""

from __future__ import annotations
