"""Damage to a replica's file that kills whoever reads it."""

from __future__ import annotations

import mmap
from pathlib import Path


def point_beyond_the_end(file: Path, key: bytes) -> None:
    """Have the page that holds ``key`` say that it lies behind the file: LMDB maps more, and touching that kills."""
    body = bytearray(file.read_bytes())
    found = body.find(key)
    while found > 0:
        page, node = divmod(found - 8, mmap.PAGESIZE)  # a node's head has eight bytes
        pointer = body.index(node.to_bytes(2, "little"), page * mmap.PAGESIZE + 16)
        body[pointer : pointer + 2] = b"\xff\xff"
        found = body.find(key, found + 1)
    file.write_bytes(body)
