"""Damage to a replica's file that kills whoever reads it."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

LEAF = 0x02
PAGE_HEAD = struct.Struct("<QHHHH")  # its number, nothing, flags, where its pointers end, where its nodes begin
NODE_HEAD = struct.Struct("<HHHH")  # two of the value's size, flags, the key's size


def point_beyond_the_end(file: Path, key: bytes) -> None:
    """Have the pages that hold ``key`` say that it lies behind the file: LMDB maps more, and touching that kills.

    Pages are read as LMDB lays them out, since a key's text is found in the unused middle of pages as well.

    Raises:
        LookupError: No page points at ``key``.
    """
    body = bytearray(file.read_bytes())
    pointers = [pointer for pointer, held in _pointers(body) if held == key]
    if not pointers:
        raise LookupError(f"{file} holds no {key!r}")
    for pointer in pointers:
        body[pointer : pointer + 2] = b"\xff\xff"
    file.write_bytes(body)


def _pointers(body: bytearray) -> Iterator[tuple[int, bytes]]:
    """Where each pointer of a leaf lies in the file, and the key that it points at."""
    for page in range(0, len(body), mmap.PAGESIZE):
        number, _, flags, end, _ = PAGE_HEAD.unpack_from(body, page)
        if flags != LEAF or number != page // mmap.PAGESIZE:  # the rest of a large value has no head
            continue
        for pointer in range(page + PAGE_HEAD.size, page + end, 2):
            node = page + int.from_bytes(body[pointer : pointer + 2], "little")
            *_, size = NODE_HEAD.unpack_from(body, node)
            yield pointer, bytes(body[node + NODE_HEAD.size : node + NODE_HEAD.size + size])
