"""Where quota periods start and end: as the portal tells it."""

from apimgr.contracts.periods import period_bounds as period_bounds
