"""One usage record per call, and its layout in a gateway's spool.

``frame = length:u16 crc32:u32 body`` where ``length`` counts the body's bytes and the CRC covers them. The body is
the fixed part below, then the raw path (bounded) and the decision trail (JSON, bounded), both empty on a plain call.
All integers are little-endian. Ids are the 64-bit ids of the control plane; 0 means "none".
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

MAX_PATH_BYTES: Final = 1024
MAX_TRAIL_BYTES: Final = 2048

_FRAME: Final = struct.Struct("<HI")
FRAME_BYTES: Final = _FRAME.size
# request_id, started_at_us, api, version, operation, application, credential, plan,
# bytes_in, bytes_out, total_us, upstream_us, status, upstream_status, outcome, method, flags, client address,
# path length, trail length
BODY: Final = struct.Struct("<16sQqqqqqqQQIIHHHBB16sHH")
BODY_BYTES: Final = BODY.size
# The same in two: what is known when a call is passed on to its upstream, and what its end adds.
KNOWN: Final = struct.Struct("<16sQqqqqqq")
REST: Final = struct.Struct("<QQIIHHHBB16sHH")
assert KNOWN.size + REST.size == BODY_BYTES, "the two parts are the whole"
MAX_FRAME_BYTES: Final = FRAME_BYTES + BODY_BYTES + MAX_PATH_BYTES + MAX_TRAIL_BYTES

METHODS: Final = ("", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY")
METHOD_NUMBERS: Final = {method: number for number, method in enumerate(METHODS)}

FLAG_TEST_KEY: Final = 1
FLAG_TUNNEL: Final = 2
FLAG_OLD_SECRET: Final = 4  # a key's former secret, within the overlap of a rotation


class UsageRecord(NamedTuple):
    """What happened in one call. Times in microseconds; ``started_at_us`` since the Unix epoch, fixed by the worker.

    ``request_id`` is 16 bytes, a UUIDv7 (RFC 9562), shown to callers as ``X-Request-Id``. ``bytes_in`` and
    ``bytes_out`` count body bytes. ``outcome`` is a number of ``contracts.outcomes``. ``client`` is the peer's address
    as IPv6 (IPv4 mapped), or zeroes where the deployment keeps none. ``path`` is empty unless it matched no operation
    or was refused.
    """

    request_id: bytes
    started_at_us: int
    api_id: int
    version_id: int
    operation_id: int
    application_id: int
    credential_id: int
    plan_id: int
    bytes_in: int
    bytes_out: int
    total_us: int
    upstream_us: int
    status: int
    upstream_status: int
    outcome: int
    method: int
    flags: int
    client: bytes
    path: bytes = b""
    trail: bytes = b""


class CorruptRecord(ValueError):
    """A frame whose length or checksum does not hold. ``offset`` is where it starts, in bytes."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"usage record at byte {offset}: {reason}")
        self.offset = offset
        self.reason = reason


def encode(record: UsageRecord) -> bytes:
    """The frame of one record. Over-long paths and trails are cut, never refused: the count matters more."""
    *fixed, path, trail = record
    path, trail = path[:MAX_PATH_BYTES], trail[:MAX_TRAIL_BYTES]
    return seal(BODY.pack(*fixed, len(path), len(trail)) + path + trail)


def seal(body: bytes) -> bytes:
    """The frame around a body, for who packs one without a ``UsageRecord``."""
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def decode(buffer: bytes | memoryview) -> Iterator[tuple[int, UsageRecord]]:
    """Yield ``(end offset, record)`` for each whole frame in ``buffer``, in order.

    Stops quietly at a frame that the buffer does not hold whole (a torn tail) or that is not yet written (its length
    is zero). Raises ``CorruptRecord`` at a frame whose checksum or lengths are wrong.
    """
    view = memoryview(buffer)
    offset = 0
    while len(view) - offset >= FRAME_BYTES:
        length, crc = _FRAME.unpack_from(view, offset)
        if not length:
            return
        if length < BODY_BYTES:
            raise CorruptRecord(offset, f"length {length} is under the fixed part's {BODY_BYTES}")
        start = offset + FRAME_BYTES
        if start + length > len(view):
            return
        body = view[start : start + length]
        if zlib.crc32(body) != crc:
            raise CorruptRecord(offset, "checksum does not match")
        *fixed, path_length, trail_length = BODY.unpack_from(body)
        if BODY_BYTES + path_length + trail_length != length:
            raise CorruptRecord(offset, "inner lengths do not add up")
        path = bytes(body[BODY_BYTES : BODY_BYTES + path_length])
        trail = bytes(body[BODY_BYTES + path_length :])
        offset = start + length
        yield offset, UsageRecord._make((*fixed, path, trail))


# What the shipper writes in one transaction into the tables, as ``analytics`` migrates them: the ledger row, then COPY.
EVENT_TABLE: Final = "usage_event"
EVENT_COLUMNS: Final = (
    "batch_id",
    "request_id",
    "started_at",
    "api_id",
    "version_id",
    "operation_id",
    "application_id",
    "credential_id",
    "plan_id",
    "bytes_in",
    "bytes_out",
    "total_us",
    "upstream_us",
    "status",
    "upstream_status",
    "outcome",
    "method",
    "flags",
    "client",
    "path",
    "trail",
)

# What a range of the ledger is.
KIND_CALLS: Final = 0
KIND_CUT_OFF: Final = 1  # calls that a dead worker had under way
KIND_QUARANTINED: Final = 2  # one record that the database refuses; set aside, not stored
KIND_UNREADABLE: Final = 3  # bytes that cannot be read; set aside, not stored

# A retry of a range that is stored already inserts nothing and returns no row: then there is nothing to COPY either.
INSERT_BATCH: Final = (
    "INSERT INTO usage_batch"
    " (node, boot, worker, segment, from_offset, to_offset, events, first_at, last_at, kind)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING id"
)
COPY_EVENTS: Final = f"COPY {EVENT_TABLE} ({', '.join(EVENT_COLUMNS)}) FROM STDIN (FORMAT BINARY)"
# PostgreSQL types of EVENT_COLUMNS, as a binary COPY must name them.
EVENT_TYPES: Final = (
    *("int8", "uuid", "timestamptz"),
    *("int8",) * 8,
    *("int4",) * 2,
    *("int2",) * 5,
    *("inet", "text", "jsonb"),
)
# The database's books of each boot of a node. What is rolled up is added up in ``usage_boot``, in the transaction that
# counts it; the rest still stands in the ledger, of which few rows wait.
LEDGER_SUMS: Final = (
    f"events, events * (kind = {KIND_CUT_OFF})::int, (kind = {KIND_QUARANTINED})::int,"
    f" (to_offset - from_offset) * (kind = {KIND_UNREADABLE})::int"
)
BOOK_COLUMNS: Final = ("stored", "cut_off", "quarantined", "set_aside_bytes", "rolled_up")
_BOOKS: Final = (  # of names of this module's own
    f"SELECT node, boot, {', '.join(f'sum({name})::bigint' for name in BOOK_COLUMNS)} FROM ("  # noqa: S608
    f"SELECT node, boot, {', '.join(BOOK_COLUMNS)} FROM usage_boot"
    f" UNION ALL SELECT node, boot, {LEDGER_SUMS}, 0 FROM usage_batch WHERE rolled_up_at IS NULL"
    ") AS books"
)
BOOKS_OF_ALL: Final = f"{_BOOKS} GROUP BY node, boot"
BOOKS_OF_BOOT: Final = f"{_BOOKS} WHERE node = %s AND boot = %s GROUP BY node, boot"
# How many calls the counts that are kept for ever hold in all.
COUNTED: Final = "SELECT coalesce(sum(n), 0)::bigint FROM usage_traffic_day"
# How far a node has shipped: everything it served before ``shipped_until`` is in the database. The agent says so
# with each batch and each heartbeat, idle or not; without it quiet and behind look the same.
UPSERT_NODE: Final = (
    "INSERT INTO usage_node (node, shipped_until, seen_at) VALUES (%s, %s, now())"
    " ON CONFLICT (node) DO UPDATE SET shipped_until = excluded.shipped_until, seen_at = excluded.seen_at"
)
assert len(EVENT_TYPES) == len(EVENT_COLUMNS), "each column has its type"
