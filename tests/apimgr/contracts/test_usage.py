from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimgr.contracts.usage import (
    BODY_BYTES,
    FRAME_BYTES,
    MAX_PATH_BYTES,
    MAX_TRAIL_BYTES,
    CorruptRecord,
    UsageRecord,
    decode,
    encode,
)

_ids = st.integers(0, 2**63 - 1)
_u64, _u32, _u16, _u8 = (st.integers(0, 2**bits - 1) for bits in (64, 32, 16, 8))
_sixteen = st.binary(min_size=16, max_size=16)
records = st.builds(
    UsageRecord,
    request_id=_sixteen,
    started_at_us=_u64,
    api_id=_ids,
    version_id=_ids,
    operation_id=_ids,
    application_id=_ids,
    credential_id=_ids,
    plan_id=_ids,
    bytes_in=_u64,
    bytes_out=_u64,
    total_us=_u32,
    upstream_us=_u32,
    status=_u16,
    upstream_status=_u16,
    outcome=_u16,
    method=_u8,
    flags=_u8,
    client=_sixteen,
    path=st.binary(max_size=60),
    trail=st.binary(max_size=60),
)


def readable(buffer: bytes) -> tuple[list[tuple[int, UsageRecord]], int]:
    """What can be read of a buffer, and where a corrupt frame stopped it, or 0."""
    read = []
    try:
        for item in decode(buffer):
            read.append(item)  # noqa: PERF402  # what came before a corrupt frame counts
    except CorruptRecord as error:
        return read, error.offset
    return read, 0


@given(st.lists(records, max_size=5))
def test_what_is_written_is_read(written: list[UsageRecord]) -> None:
    frames = [encode(record) for record in written]
    read = list(decode(b"".join(frames)))
    assert [record for _end, record in read] == written
    ends = [sum(map(len, frames[: index + 1])) for index in range(len(frames))]
    assert [end for end, _record in read] == ends


@given(records, records, st.data())
def test_a_torn_tail_is_left_for_later(first: UsageRecord, second: UsageRecord, data: st.DataObject) -> None:
    frame = encode(second)
    cut = data.draw(st.integers(0, len(frame) - 1))
    read = list(decode(encode(first) + frame[:cut]))
    assert [record for _end, record in read] == [first]


@given(records, records, st.data())
def test_a_flipped_bit_never_passes_for_a_record(first: UsageRecord, second: UsageRecord, data: st.DataObject) -> None:
    whole = bytearray(encode(first) + encode(second))
    bit = data.draw(st.integers(0, len(encode(first)) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8
    # A length made longer may run over the end: then it looks torn, and nothing is read either.
    assert readable(bytes(whole)) == ([], 0)


@given(st.binary(max_size=400))
def test_noise_never_breaks_the_reader(noise: bytes) -> None:
    read, offset = readable(noise)
    assert all(0 < end <= len(noise) for end, _record in read)
    assert 0 <= offset <= len(noise)


def record(**fields: object) -> UsageRecord:
    return UsageRecord(bytes(16), *[0] * 16, bytes(16))._replace(**fields)


def test_long_paths_and_trails_are_cut_and_counted() -> None:
    ((_end, read),) = decode(encode(record(path=b"p" * 5000, trail=b"t" * 5000)))
    assert (len(read.path), len(read.trail)) == (MAX_PATH_BYTES, MAX_TRAIL_BYTES)


def test_a_plain_record_is_small() -> None:
    assert len(encode(record())) == FRAME_BYTES + BODY_BYTES < 160


def test_a_frame_too_short_for_its_fixed_part_is_corrupt() -> None:
    with pytest.raises(CorruptRecord, match="under the fixed part"):
        list(decode(b"\x01\x00" + bytes(40)))
