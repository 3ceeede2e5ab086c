"""How the replica lies on disk, shared by the agent that writes it and the workers that read it.

``state`` is a page of 64-bit words that every process maps: which generation of the data is the one to read, whether a
full synchronisation ever completed, one epoch per kind, and who touches the data just now. ``data-<generation>`` is an
LMDB environment. A rebuild fills the next generation aside and then moves the word: nobody reads a half-filled one.
"""

from __future__ import annotations

import errno
import mmap
import os
import zlib
from pathlib import Path
from typing import Any, Final

import lmdb

from apimgr.contracts.snapshot import KINDS

GENERATION: Final = 0
READY: Final = 1
DAMAGED: Final = 2  # the generation in which somebody met damage
EPOCH_WORDS: Final = {kind: 8 + number for number, kind in enumerate(KINDS)}
# Unix seconds at which the agent last knew the replica to be up to date. Outside what workers watch for changes: it
# moves all the time.
IN_TOUCH_AT: Final = 64
DEATHS: Final = 65  # processes that died while they read this generation
AGENT: Final = 66  # places of ``Care``: the agent's, and the first worker's
WORKERS: Final = 128
# A process is killed for other reasons too, but hardly ever so often in these moments.
MOST_DEATHS: Final = 3
_STATE_BYTES: Final = mmap.PAGESIZE
# Address space, not memory and not disk: LMDB grows into it.
MAP_BYTES: Final = 64 * 1024**3
MAX_KEY_BYTES: Final = 511  # LMDB's own limit
CHECK_BYTES: Final = 4
# Not want of memory: that is also what a damaged file asks too much of.
_NO_DESCRIPTORS: Final = tuple(os.strerror(number) for number in (errno.EMFILE, errno.ENFILE))


class ReplicaDamaged(RuntimeError):
    """The data does not read back as it was written."""


class ReplicaOutOfReach(ReplicaDamaged):
    """It may well be sound, but there is no descriptor to read it with."""


def open_state(path: Path) -> memoryview:
    """The mapped words, made if they are not there."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(path / "state", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(fd).st_size < _STATE_BYTES:
            os.ftruncate(fd, _STATE_BYTES)
        return memoryview(mmap.mmap(fd, _STATE_BYTES)).cast("Q")
    finally:
        os.close(fd)


class Care:
    """Held by a process while it touches the data, so that its death there is known.

    A page that damage says to be beyond the end of the file kills whoever touches it (SIGBUS), and then whoever is
    started in its place. After so many deaths the generation counts as damaged, and is touched no more.
    """

    def __init__(self, words: memoryview, place: int) -> None:
        self._words = words
        self._place = place
        held_in, words[place] = words[place], 0
        if held_in and held_in == words[GENERATION]:  # by a predecessor, who is dead
            words[DEATHS] += 1
            if words[DEATHS] >= MOST_DEATHS:
                words[DAMAGED] = held_in

    def __enter__(self) -> None:
        self._words[self._place] = self._words[GENERATION]

    def __exit__(self, *_: object) -> None:
        self._words[self._place] = 0


def data_path(path: Path, generation: int) -> Path:
    return path / f"data-{generation}"


def open_data(path: Path, *, readonly: bool, sync: bool = True) -> Any:
    """The LMDB environment at ``path``. Raises ``ReplicaDamaged`` if it is not one, or is cut short.

    Without ``sync`` whoever writes has to sync before anybody relies on it.

    A page beyond the end of the file would kill the process that touches it (SIGBUS), so the length is checked first.
    """
    try:
        if not readonly:  # made by LMDB itself, the folder gets the file's mode: its owner could not enter it
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        data = lmdb.open(
            str(path),
            map_size=MAP_BYTES,
            readonly=readonly,
            create=not readonly,
            max_readers=256,
            mode=0o600,
            sync=sync,
        )
    except (lmdb.Error, OSError) as error:
        if str(error).endswith(_NO_DESCRIPTORS):  # LMDB tells its reason in words alone
            raise ReplicaOutOfReach(str(error)) from error
        raise ReplicaDamaged(f"{path.name} cannot be opened: {error}") from error
    whole = (data.info()["last_pgno"] + 1) * data.stat()["psize"]
    if not readonly or (path / "data.mdb").stat().st_size >= whole:
        return data
    data.close()
    raise ReplicaDamaged(f"{path.name} is cut short")


def entry_key(kind: str, key: str) -> bytes:
    return f"{kind}:{key}".encode()


def seal(key: bytes, document: bytes) -> bytes:
    """LMDB has no checksums, so each value starts with one; it covers the key, so that no value can change places."""
    return zlib.crc32(document, zlib.crc32(key)).to_bytes(CHECK_BYTES, "little") + document


def unseal(key: bytes, value: bytes) -> bytes:
    document = value[CHECK_BYTES:]
    if zlib.crc32(document, zlib.crc32(key)).to_bytes(CHECK_BYTES, "little") != value[:CHECK_BYTES]:
        raise ReplicaDamaged(f"the value of {key!r} fails its checksum")
    return document
