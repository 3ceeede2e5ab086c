from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimgr.core.ids import ALPHABET, LENGTH, IdConverter, decode_id, encode_id, new_id

ids = st.integers(0, 2**63 - 1)


@given(ids)
def test_outside_and_back(value: int) -> None:
    text = encode_id(value)
    assert len(text) == LENGTH
    assert set(text) <= set(ALPHABET)
    assert decode_id(text) == value


@given(ids, ids)
def test_order_is_the_same_outside(one: int, other: int) -> None:
    assert (encode_id(one) < encode_id(other)) == (one < other)


@given(st.text(max_size=20))
def test_only_ids_are_read(text: str) -> None:
    try:
        value = decode_id(text)
    except ValueError:
        return
    assert encode_id(value) == text


@pytest.mark.parametrize("text", ["", "z" * 13, "0" * 12, "0" * 14, "o" * 13, "I" * 13, "０" * 13, "-" * 13])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        decode_id(text)


@pytest.mark.parametrize("value", [-1, 2**63])
def test_what_is_out_of_range_is_refused(value: int) -> None:
    with pytest.raises(ValueError):
        encode_id(value)


def test_ids_grow_and_never_repeat_whatever_the_clock_does() -> None:
    with patch("apimgr.core.ids.time.time", side_effect=[2e9, 2e9, 1.9e9, 2e9 + 1]), patch("apimgr.core.ids._last", 0):
        made = [new_id() for _ in range(4)]
    assert made == sorted(set(made))


def test_threads_never_make_the_same_id() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_id(), range(10_000)))
    assert len(set(made)) == len(made)


def test_an_id_fits_a_bigint_for_a_century() -> None:
    with patch("apimgr.core.ids.time.time", return_value=4_859_000_000), patch("apimgr.core.ids._last", 0):
        assert new_id() < 2**63


def test_addresses_take_the_number_and_the_text() -> None:
    converter = IdConverter()
    assert converter.to_python(converter.to_url(42)) == 42
    assert converter.to_url("0000000000001") == "0000000000001"
