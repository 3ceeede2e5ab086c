"""What holds of the gateway whatever is sent to it, by whom and in which order (``scripted``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from apimgr.contracts.outcomes import BY_NUMBER
from apimgr.contracts.usage import METHODS, UsageRecord
from proxy.dataplane import stats
from tests.fuzz import reference
from tests.fuzz.scripted import QUOTA, Pipe, Stage, play

HEAD = METHODS.index("HEAD")


class Sent(NamedTuple):
    """A request as it went over the wire, from the byte ``at`` on."""

    at: int
    method: bytes
    body: bytes
    is_whole: bool
    head: reference.Head


def gateway(script: bytes) -> None:
    """Each call has its one record, each side is sent HTTP and nothing that nobody asked for, and all is given back."""
    stage = play(script)
    _check_books(stage)
    asked = {pipe.peer: list(_requests(bytes(sent))) for (_, pipe), sent in zip(stage.callers, stage.sent, strict=True)}
    seen = set()
    for _, pipe in stage.upstreams:
        before: list[Sent] = []
        for request in _requests(bytes(pipe.written), ours=True):
            _check_request(request, asked)
            assert _is_in_step(bytes(pipe.heard[: pipe.heard_when[request.at]]), before)
            before.append(request)
        seen |= {request.head.values(b"x-request-id")[0] for request in before}
    assert seen <= {record.request_id.hex().encode() for record in stage.records if record.upstream_us}
    for _, pipe in stage.callers:
        _check_answers(pipe, [record for record in stage.records if record.client[12:] == _packed(pipe.peer)])


def _packed(peer: str) -> bytes:
    return bytes(map(int, peer.split(".")))


def _check_books(stage: Stage) -> None:
    records, worker = stage.records, stage.worker
    assert not stage.recorder.held, "a call is held that is over"
    assert len({record.request_id for record in records}) == len(records)
    assert not any(BY_NUMBER[record.outcome].code == "internal_error" for record in records)
    assert not worker.connections
    assert not worker.addresses
    assert not worker.tunnels
    assert worker.stats[stats.CONNECTIONS] == 0
    assert stage.under_way == 0, "a call is counted as under way that is over"
    assert stage.spent == sum(map(_counts, records)) <= QUOTA


def _counts(record: UsageRecord) -> bool:
    """Whether it counts against the quota of a plan that does not count failures: no, if no upstream was asked."""
    outcome = BY_NUMBER[record.outcome]
    if not record.plan_id or (not record.upstream_us and (outcome.refusal or outcome.code == "client_aborted")):
        return False
    return record.status < 500 and not outcome.code.startswith("upstream_")


def _requests(raw: bytes, *, ours: bool = False) -> Iterator[Sent]:
    """Those that stand in ``raw``, up to what is none; ``ours`` have to be sound, if not whole."""
    size = len(raw)
    while raw:
        at = size - len(raw)
        try:
            head = reference.read_request(raw)
            length = reference.body_length(head)
        except (reference.Refused, reference.Incomplete) as error:
            if ours:
                raise AssertionError("not HTTP") from error
            return
        if head.values(b"upgrade") and ours:
            yield Sent(at, head.start[0], b"", is_whole=True, head=head)
            return
        body, raw, is_whole = _body(raw[head.size :], length, ours=ours)
        yield Sent(at, head.start[0], body, is_whole, head)


def _body(raw: bytes, length: int, *, ours: bool) -> tuple[bytes, bytes, bool]:
    """Payload, what follows it and whether it is whole; of a broken one no payload."""
    if length >= 0:
        return raw[:length], raw[length:], len(raw) >= length
    try:
        return *reference.read_chunked(raw), True
    except reference.Incomplete:
        return b"", b"", False
    except reference.Refused as error:
        if ours:
            raise AssertionError("not a chunked body") from error
        return b"", b"", False


def _check_request(request: Sent, asked: dict[str, list[Sent]]) -> None:
    head = request.head
    method, target, version = head.start
    assert target == b"/base" or target.startswith((b"/base/", b"/base?")), target
    assert version == b"HTTP/1.1"
    for name, count in ((b"host", 1), (b"x-forwarded-for", 1), (b"x-request-id", 1), (b"via", 1)):
        assert len(head.values(name)) == count, name
    assert not head.values(b"x-api-key")
    caller = head.values(b"x-forwarded-for")[0].decode()
    assert any(
        method == other.method and (request.body == other.body if request.is_whole and other.is_whole else
                                    not request.is_whole)
        for other in asked[caller]
    ), "nobody asked for it"  # fmt: skip


def _is_in_step(heard: bytes, requests: list[Sent]) -> bool:
    """Whether an upstream's bytes are whole answers to whole requests and no more, and it keeps the connection (H5)."""
    for request in requests:
        status = 100
        while status < 200:
            head = _answer(heard)
            heard, status = heard[head.size :], int(head.start[1])
        options = b",".join(head.values(b"connection")).lower().replace(b" ", b"").split(b",")
        if b"close" in options or (head.start[0] == b"HTTP/1.0" and b"keep-alive" not in options):
            return False
        lengths, codings = head.values(b"content-length"), head.values(b"transfer-encoding")
        if status == 204 and (codings or lengths not in ([], [b"0"])):
            return False
        if request.method == b"HEAD" or status in (204, 304):
            continue
        if not lengths + codings:
            return False
        _, heard, is_whole = _body(heard, -1 if codings else int(lengths[0]), ours=True)
        if not (is_whole and request.is_whole):
            return False
    return not heard


def _answer(raw: bytes) -> reference.Head:
    lines, size = reference.read_lines(raw)
    assert lines[0][:9] in (b"HTTP/1.1 ", b"HTTP/1.0 ")
    return reference.Head(lines[0].split(b" "), reference.read_fields(lines[1:]), size)


def _check_answers(pipe: Pipe, records: list[UsageRecord]) -> None:
    raw = bytes(pipe.written)
    for record in records:
        while raw:
            head = _answer(raw)
            raw, status = raw[head.size :], int(head.start[1])
            if status >= 200 or status == 101:
                break
            assert not head.values(b"content-length") + head.values(b"transfer-encoding")
        else:
            return  # gone before there was an answer, as must be all that come after it
        assert status == record.status
        assert head.values(b"x-request-id") == [record.request_id.hex().encode()]
        if status == 101:
            return
        raw, is_whole = _after_answer(raw, head, record)
        if not is_whole:
            assert not raw
            assert pipe.is_lost
            return
    assert not raw, "nobody asked for it"


def _after_answer(raw: bytes, head: reference.Head, record: UsageRecord) -> tuple[bytes, bool]:
    lengths, codings = head.values(b"content-length"), head.values(b"transfer-encoding")
    assert len(lengths) + len(codings) <= 1
    if record.method == HEAD or record.status in (204, 304):
        return raw, True
    if codings:
        assert codings == [b"chunked"]
        try:
            return reference.read_chunked(raw)[1], True
        except reference.Incomplete:
            return b"", False
    if lengths:
        return raw[int(lengths[0]) :], len(raw) >= int(lengths[0])
    assert head.values(b"connection") == [b"close"]
    return b"", True
