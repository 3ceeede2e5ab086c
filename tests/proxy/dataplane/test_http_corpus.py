"""gunicorn's corpus of requests: every invalid one is refused, every valid one served or refused on purpose.

Where we differ from gunicorn's verdict, ``docs/reference/http.md`` says why; a file that is not in its tables and not
treated as gunicorn does fails here. Most files leave ``Host`` out, which alone is reason to refuse HTTP/1.1, so each is
also judged with one put in: what it was written to test must not hide behind that.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.dataplane.http.body import BodyReader, ChunkedReader, LengthReader
from proxy.dataplane.http.malformed import Malformed
from proxy.dataplane.http.request import CHUNKED, parse_request
from tests.fuzz.outside import read_file, requests, with_host
from tests.here import needs_corpus
from tests.proxy.dataplane.support import PATIENCE, Running, World
from tests.proxy.dataplane.test_gateway import play
from tests.proxy.dataplane.test_smuggling import Ledger, read, read_one

ROOT = Path(__file__).parents[3]
REFERENCE = ROOT / "docs" / "reference" / "http.md"

pytestmark = [pytest.mark.corpora, needs_corpus("http1")]


def accepted(raw: bytes, *, add_host: bool) -> tuple[int, bytes]:
    """How many requests of ``raw`` the gateway would serve, and the bytes from the first that it would not."""
    count = 0
    while raw:
        raw = with_host(raw) if add_host else raw
        try:
            head = parse_request(raw)
            rest = raw[head.size :] if head is not None else b""
            if head is None:
                return count, raw
            if head.body_length:
                body: BodyReader = ChunkedReader() if head.body_length == CHUNKED else LengthReader(head.body_length)
                _, rest = body.feed(rest)
                if not body.done:
                    return count, raw
        except Malformed:
            return count, raw
        count, raw = count + 1, rest
    return count, b""


def refused(raw: bytes, *, add_host: bool) -> bool:
    """Whether the gateway would refuse any of the requests in ``raw``, or wait for more and then close."""
    return accepted(raw, add_host=add_host)[1] != b""


def listed(heading: str) -> set[str]:
    """The files that a table of the reference names."""
    section = REFERENCE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"`([^`]+\.http)`", section))


@pytest.mark.requirement("M13")
@pytest.mark.parametrize("add_host", [False, True])
def test_every_invalid_request_is_refused(add_host: bool) -> None:
    served = {path.name for path in requests("invalid") if not refused(read_file(path), add_host=add_host)}
    assert served <= listed("Invalid for gunicorn, served here")
    if add_host:
        assert served == listed("Invalid for gunicorn, served here")


@pytest.mark.requirement("M13")
def test_every_valid_request_is_served_or_refused_on_purpose() -> None:
    rejected = {path.name for path in requests("valid") if refused(read_file(path), add_host=True)}
    assert rejected == listed("Valid for gunicorn, refused here")


def with_hosts(raw: bytes) -> bytes:
    """A ``Host`` put into each of several requests."""
    done = b""
    while raw:
        raw = with_host(raw)
        rest = read_one(raw)[1]
        done, raw = done + raw[: len(raw) - len(rest)], rest
    return done


@pytest.mark.processes
@pytest.mark.requirement("M13", "H1.4", "H3.5")
@pytest.mark.parametrize("kind", ["invalid", "valid"])
def test_it_is_so_on_the_wire(tmp_path: Path, kind: str) -> None:
    """Sent to a gateway that passes everything on: the upstream gets what is sound, and not a byte of the rest."""
    world = World()
    world.version = replace(
        world.version, base_path="/", authentication="none", unknown_operation="pass", operations=()
    )

    async def scenario(gateway: Running) -> None:
        for path in requests(kind):
            raw = with_hosts(read_file(path))
            ledger = Ledger()
            gateway.upstream.handler = ledger.serve
            reader, writer = await gateway.connect()
            with suppress(ConnectionError):
                writer.write(raw)
                writer.write_eof()
                await asyncio.wait_for(reader.read(), PATIENCE)
            for idle in list(gateway.worker.pools._pools.values()):
                idle.close()
            await asyncio.sleep(0)
            sound, _ = accepted(raw, add_host=False)
            # The first request may have been the last of its connection.
            least = min(sound, 1) if b"HTTP/1.0\r" in raw or b"close" in raw.lower() else sound
            got = b"".join(map(bytes, ledger.connections))
            whole, rest = read(got)
            assert least <= len(whole) <= sound, path.name
            assert rest == b"", path.name

    play(tmp_path, scenario, world)
