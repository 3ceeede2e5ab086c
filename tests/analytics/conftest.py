from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from apimgr.accounts.models import Organisation
from tests.analytics.world import Scene, make_scene


@pytest.fixture
def now() -> datetime:
    """A moment a little ago, away from the edge of an hour so that "the last hour" holds what a test puts there."""
    return timezone.now() - timedelta(seconds=20)


@pytest.fixture
def scene(acme: Organisation, builders: Organisation) -> Scene:
    return make_scene(acme, builders)
