"""Every fault there is, in the order of the table. A module of faults adds its own to the registry."""

from __future__ import annotations

from tests.faults import grantor, scarcity
from tests.faults.faults import FAULTS

__all__ = ["FAULTS", "grantor", "scarcity"]
