"""Sizes as people write them."""

from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError

from apimgr.core.forms import SizeField


@pytest.mark.parametrize(
    ("written", "size"),
    [("0", 0), ("512", 512), ("10 MiB", 10 * 2**20), (" 10MB ", 10**7), ("1\u00a0kib", 1024), ("3  b", 3)],
)
def test_a_size_is_read(written: str, size: int) -> None:
    assert SizeField().clean(written) == size


@pytest.mark.parametrize("written", ["x", "1 2", "1.5 MiB", "1 MiB!", "-1", "1" * 16, "1" + " " * 1_000_000 + "!"])
def test_what_is_no_size_is_refused_at_once(written: str) -> None:
    """The last one took hours: white space may stand before a unit and after one, and there need be none."""
    with pytest.raises(ValidationError):
        SizeField().clean(written)
