"""What the gateway makes of bytes, as plain text, so that two builds of it can be compared (``tests.fuzz.twin``).

All that a reader gives away is in it, and of an error all that it says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import ip_address, ip_network

from apimgr.contracts import usage
from apimgr.contracts.credentials import digest_key, is_well_formed, without_keys
from apimgr.contracts.snapshot import ChoiceDocument, OperationDocument, RouteDocument, Selection
from proxy.dataplane.http import websocket
from proxy.dataplane.http.body import ChunkedReader, LengthReader, chunk
from proxy.dataplane.http.fields import connection_options, kind_of, with_dashes
from proxy.dataplane.http.malformed import Malformed
from proxy.dataplane.http.path import canonical_path, without_parameters
from proxy.dataplane.http.pieces import worth_another_try
from proxy.dataplane.http.request import CHUNKED, RequestHead, authority, parse_request
from proxy.dataplane.http.response import ResponseHead, parse_response
from proxy.dataplane.policies.forwarding import caller_behind
from proxy.dataplane.policies.identify import find_key, passes_on
from proxy.dataplane.policies.select import Fork
from proxy.dataplane.routing import OperationTrie
from tests.fuzz.scripted import play

PEPPER = b"p" * 32
VARIES = re.compile(rb"[0-9a-f]{32}|(?<=;t=)[0-9]+|(?<=_ms\":)[0-9.]+|(?<=\nDate: )[^\r]+")
PROXY, PROXIES = ip_address("10.0.0.1"), (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))
TOLD = ("code", "detail", "outcome", "lines", "offset", "reason")  # by errors of ours
TEMPLATES = ("/", "/a", "/a/", "/a/{id}", "/a/{id}/b", "/a/{id}.json", "/a/x{id}", "/a/b/c", "/c/{rest+}", "/a/{id}/*",
             "/é/{id}", "/a/{id}/{other}/c", "/a/{x}-{y}.{z}", "/a/{x}aba{y}b", "/{x}{y}{z}/b")  # fmt: skip
TRIE = OperationTrie(
    tuple(
        OperationDocument(number, method, path)
        for number, (path, method) in enumerate(((p, m) for p in TEMPLATES for m in ("GET", "POST")), 1)
    )
)
CHOICES = tuple(ChoiceDocument(value, number) for number, value in enumerate(("1", "2024-10-01", "a b"), 1))
WAYS: tuple[tuple[int, Selection, str], ...] = (
    (1, "header", "X-Api-Version"), (0, "header", "Accept"), (1, "query", "api_version"),
)  # fmt: skip
FORKS = tuple(
    Fork(RouteDocument("", "/", default, select_by=by, select_name=name, choices=CHOICES), 1, lambda _: False)
    for default, by, name in WAYS
)


def _of(*steps: Callable[[], object]) -> Iterator[object]:
    """What each step gives, or the error that it raises."""
    for step in steps:
        try:
            yield step()
        except Exception as error:
            yield type(error).__name__, str(error), [getattr(error, name, None) for name in TOLD]


def request_head(data: bytes) -> Iterator[object]:
    try:
        head = parse_request(data)
    except Malformed:
        head = None
        yield from _of(lambda: parse_request(data))
    yield worth_another_try(data, len(data) // 2)
    if head is not None:
        yield _shown(head)
        yield from _decided(head)
        reader = ChunkedReader() if head.body_length == CHUNKED else LengthReader(head.body_length)
        yield from _of(lambda: reader.done or reader.feed(data[head.size :]))


def _decided(head: RequestHead) -> Iterator[object]:
    """What policies read in a head."""
    yield from _of(
        lambda: find_key(head),
        lambda: [passes_on(value, keyed=keyed) for value in head.authorizations for keyed in (True, False)],
        lambda: TRIE.find(head.path, head.method),
        lambda: caller_behind(PROXY, head.forwarded + head.block.forwarded, head.host, PROXIES),
        *(partial(fork.version_id, head) for fork in FORKS),
        lambda: [fork.passed_on(head.block) for fork in FORKS],
        lambda: [with_dashes(name.lower()) for name, _ in head.fields],
    )


def _shown(head: RequestHead | ResponseHead) -> object:
    return _attributes(head), _attributes(head.block)


def _attributes(of: object) -> dict[str, object]:
    """Not by its slots, of which nothing is left in a compiled class."""
    named = {name: getattr(of, name) for name in dir(of) if name[0] != "_" and name != "block"}
    if "struck" in named:
        named["struck"] = sorted(named["struck"].split(b","))  # in the order of a set, which is each process's own
    return {name: value for name, value in named.items() if not callable(value)}


def response_head(data: bytes) -> Iterator[object]:
    """The first byte says whether it answers HEAD."""
    to_head, data = bool(data[:1] and data[0] & 1), data[1:]
    try:
        head = parse_response(data, to_head=to_head)
    except Malformed:
        head = None
        yield from _of(lambda: parse_response(data, to_head=to_head))
    if head is not None:
        yield _shown(head)
        yield [fork.varied(head.lines) for fork in FORKS]
        yield websocket.accepts(head.lines, b"dGhlIHNhbXBsZSBub25jZQ==")
        reader = head.body_reader()
        yield from _of(lambda: reader.done or reader.feed(data[head.size :]))


def chunked(data: bytes) -> Iterator[object]:
    """The first byte says into how long pieces the others are cut."""
    step, data = (data[0] % 16) + 1 if data else 1, data[1:]
    for pieces in ([data], [data[at : at + step] for at in range(0, len(data), step)]):
        reader = ChunkedReader()
        for piece in pieces:
            if reader.done:
                break
            yield from _of(partial(reader.feed, piece))
        yield reader.done
    yield chunk(data)


def path(data: bytes) -> Iterator[object]:
    return _of(
        lambda: canonical_path(data),
        lambda: without_parameters(canonical_path(data)),
        lambda: [TRIE.find(canonical_path(data), method) for method in (b"GET", b"HEAD", b"PUT")],
        lambda: authority(data),
        lambda: kind_of(data),
        lambda: sorted(connection_options(data) or ()),
        lambda: (is_well_formed(data), without_keys(data), digest_key(data, PEPPER)),
    )


def websocket_frames(data: bytes) -> Iterator[object]:
    masked, step, data = bool(data[:1] and data[0] & 1), (data[0] >> 1) % 9 + 1 if data else 1, data[1:]
    for pieces in ([data], [data[at : at + step] for at in range(0, len(data), step)]):
        reader = websocket.FrameReader(masked=masked, max_message_bytes=1000)
        for piece in pieces:
            yield from _of(partial(reader.feed, piece))
            yield reader.messages, reader.at_boundary, reader.is_closed
    code = int.from_bytes(data[:2], "big")
    yield from _of(
        lambda: (websocket.is_key(data), websocket.accept_for(data)),
        lambda: websocket.close_frame(code, data.decode("latin-1"), masked=masked),
    )


def spool(data: bytes) -> Iterator[object]:
    records: list[usage.UsageRecord] = []
    frames = usage.decode(data)
    while True:
        step = list(_of(lambda: next(frames, None)))
        yield step
        if not (isinstance(step[0], tuple) and isinstance(step[0][0], int)):
            break
        records.append(step[0][1])
    yield from _of(lambda: [usage.encode(record) for record in records], lambda: usage.seal(data[:60_000]))


def gateway(data: bytes) -> Iterator[object]:
    """What is left of a script; times and ids apart."""
    stage = play(data)
    for _, pipe in stage.callers + stage.upstreams:
        yield pipe.peer, pipe.was_aborted, VARIES.sub(b"*", pipe.written)
    for record in stage.records:
        timeless = record._replace(request_id=b"", started_at_us=0, total_us=0, upstream_us=0)
        yield timeless._replace(trail=VARIES.sub(b"*", record.trail))
    yield stage.recorder.held, stage.under_way, stage.spent


READINGS: dict[str, Callable[[bytes], Iterator[object]]] = {
    "request_head": request_head,
    "response_head": response_head,
    "chunked": chunked,
    "path": path,
    "websocket": websocket_frames,
    "spool": spool,
    "gateway": gateway,
}
"""By the names of the targets whose inputs they read."""


def reading(name: str, data: bytes) -> bytes:
    return "\n".join(map(repr, READINGS[name](data))).encode()
