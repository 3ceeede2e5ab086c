"""What this machine has to test with. On CI all of it has to be there."""

from __future__ import annotations

import os

import pytest

from proxy.dataplane import compiled

IS_CI = os.environ.get("CI", "").lower() in {"1", "true"}
has_build = pytest.mark.skipif(
    not compiled.home().is_dir() and not IS_CI, reason="the gateway is not compiled: run `make compiled`"
)
