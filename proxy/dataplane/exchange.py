"""One request, top to bottom.

``begin`` is the list of steps; each either passes or raises ``Refusal``. Then the request is forwarded, the response
relayed as it comes, and the call recorded before its last byte is written. Nothing here waits: every method is called
by one of the two connections and returns.
"""

from __future__ import annotations

import asyncio
import logging
import time
from binascii import hexlify
from functools import partial
from typing import TYPE_CHECKING, Final

from apimgr.contracts.outcomes import BY_CODE, Outcome
from proxy.dataplane.http.body import LAST_CHUNK, BodyReader, ChunkedReader, LengthReader, chunk
from proxy.dataplane.http.malformed import Malformed
from proxy.dataplane.http.problem import problem_body, problem_head
from proxy.dataplane.http.request import CHUNKED, RequestHead
from proxy.dataplane.http.response import ResponseHead
from proxy.dataplane.http.websocket import accepts
from proxy.dataplane.limits.meter import Meter
from proxy.dataplane.policies.admit import check_body_size, check_hops, find_operation, too_large
from proxy.dataplane.policies.identify import find_key, identify
from proxy.dataplane.policies.limit import spend
from proxy.dataplane.policies.refusal import Refusal
from proxy.dataplane.policies.select import Fork
from proxy.dataplane.policies.upgrade import WEBSOCKET, chosen_upgrade, field
from proxy.dataplane.rebuilt import may_be_ignored, rebuilt_request
from proxy.dataplane.records import method_number, record_of, what_is_known
from proxy.dataplane.request_ids import new_request_id
from proxy.dataplane.runtime import NOBODY, Caller, Version
from proxy.dataplane.stats import GENERATED, REQUESTS, UNGRANTED, outcome_word
from proxy.dataplane.trail import attempt, explain
from proxy.dataplane.tunnel import Tunnel
from proxy.dataplane.upstreams.connect import CannotConnect
from proxy.dataplane.upstreams.connection import UpstreamConnection
from proxy.dataplane.usage.inflight import UNRECORDED_SLOT

if TYPE_CHECKING:
    from proxy.dataplane.listener import ClientConnection

log = logging.getLogger(__name__)

_OK: Final = BY_CODE["ok"]
_CLIENT_ABORTED: Final = BY_CODE["client_aborted"]
_CLIENT_CLOSED_REQUEST: Final = 499  # in records only, where a caller left before there was a status
_SOON_OVER: Final = frozenset({"upstream_saturated", "gateway_overloaded"})
_COME_BACK: Final = frozenset({429, 503})  # such an answer always says when
_IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"QUERY"})


class Exchange:
    """A request and its response.

    ``body`` reads what of the request's body is still to come; ``first`` is what came of it before there was a
    connection.
    """

    __slots__ = (
        "attempts", "body", "bytes_in", "bytes_out", "caller", "chunked_response", "client", "connection", "ended",
        "ended_ns", "first", "fork", "grant_due_at", "has_spent", "head", "id_text", "is_head", "known", "limit_lines",
        "meter",
        "operation_id", "request_id", "responding", "rest", "retried", "sent_at", "slot", "started_at", "started_ns",
        "status", "upgrade", "upstream_status", "upstream_us", "version", "worker",
    )  # fmt: skip

    def __init__(self, client: ClientConnection, head: RequestHead) -> None:
        self.client = client
        self.worker = client.worker
        self.head = head
        self.is_head = head.method == b"HEAD"
        self.started_at = now = time.time()
        self.started_ns = time.monotonic_ns()
        self.request_id = new_request_id(now)
        self.id_text = hexlify(self.request_id)
        self.version: Version | None = None
        self.fork: Fork | None = None  # where the call chose among versions
        self.meter: Meter | None = None
        self.has_spent = False
        self.grant_due_at = 0.0
        self.caller: Caller | None = None
        self.attempts: tuple[dict[str, object], ...] = ()  # to have the upstream answer, that failed
        self.connection: UpstreamConnection | None = None
        self.body: BodyReader | None = None
        self.rest = self.limit_lines = self.upgrade = self.first = self.known = b""
        self.operation_id = self.status = self.upstream_status = 0
        self.slot = self.bytes_in = self.bytes_out = self.sent_at = self.ended_ns = self.upstream_us = 0
        self.retried = self.responding = self.chunked_response = self.ended = False
        if head.body_length:
            self.body = ChunkedReader() if head.body_length == CHUNKED else LengthReader(head.body_length)

    # --- the steps ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Decide, and forward or refuse."""
        worker, head = self.worker, self.head
        worker.stats[REQUESTS] += 1
        try:
            self._refresh()  # first: nothing below may rest on what was changed a moment ago
            version = self._find_version()
            self.operation_id = find_operation(version, self.rest, head)
            if head.block.via:
                check_hops(head, worker.pseudonym)
            if head.block.upgrade:
                self.upgrade = chosen_upgrade(version, head)
            if head.body_length:
                check_body_size(version, head)  # before the key: says nothing about callers, and costs nothing
            if version.is_keyed:
                self.caller = identify(worker.runtime, version, find_key(head), worker.pepper, self.started_at)
            if not worker.can_record():  # before the limits: such a refusal is not the caller's to pay
                if version.document.when_unrecordable == "refuse":
                    raise Refusal("usage_unavailable", lines=b"Retry-After: 5\r\n")
                self.slot = UNRECORDED_SLOT
            may_go = self._spend(version, self.started_at)
        except Exception as reason:
            self._not_admitted(reason)
        else:
            self._forward() if may_go else self._wait()

    def _not_admitted(self, reason: Exception) -> None:
        if isinstance(reason, Refusal):
            self.caller = self.caller or reason.caller
            self.refuse(reason.outcome, reason.detail, reason.lines)
        else:
            # A document or a replica that cannot be read: never pass a call on a guess.
            log.error("Call %s could not be decided", self.id_text.decode(), exc_info=reason)
            self.refuse(BY_CODE["internal_error"], "")

    def _wait(self) -> None:
        """What was granted to this host is spent, or another process stands on what the owner has spent."""
        assert self.meter is not None, "it asks"
        if self.body is not None:
            self.client.read_body(self)  # now: whether all of it has come decides what becomes of a caller who hangs up
            if self.ended:
                return
        self.client.wait()
        if self.meter.lacking:
            self.worker.asker.ask(self.meter.lacking, self)
        else:
            self.worker.again.wait(self)

    def go_on(self, *, waited: bool) -> None:
        """The grantor was heard, or ``waited`` for in vain, or it is worth another try."""
        if self.ended:
            return
        now = time.time()
        try:
            # What was changed meanwhile holds for it: a key that was revoked, or other amounts of the plan, which a
            # meter of before would write back into the table.
            self.version = version = self._found_again(now) or self._version
            may_go = self._spend(version, now, waited=waited)
        except Exception as reason:
            self._not_admitted(reason)
        else:
            self._forward() if may_go else self._wait()

    def _refresh(self) -> None:
        runtime = self.worker.runtime
        if not runtime.refresh():
            raise Refusal("gateway_not_ready", lines=b"Retry-After: 1\r\n")
        if runtime.is_stale:
            raise Refusal("gateway_stale", lines=b"Retry-After: 5\r\n")

    def _find_version(self) -> Version:
        path = self.head.path
        found = self.worker.runtime.version_at(self.head.host, path)
        if found is None:
            raise Refusal("route_not_found")
        version, base_length = found
        self.rest = path[base_length:] or b"/" if base_length > 1 else path
        if isinstance(version, Fork):
            version = self._choose(version)
        self.version = version
        if version.is_retired:
            raise Refusal("version_retired")
        return version

    def _choose(self, fork: Fork) -> Version:
        self.fork = fork
        version = self.worker.runtime.version(fork.version_id(self.head))
        if version is None:
            raise fork.refusal("The call names a version that is not here")
        return version

    @property
    def _version(self) -> Version:
        assert self.version is not None, "found by an earlier step"
        return self.version

    def _spend(self, version: Version, now: float, *, waited: bool = False) -> bool:
        """Whether the call may go on at once."""
        meter = self.caller.meter if self.caller is not None else version.meter
        if meter is None:
            return True
        if meter.narrows:
            meter = meter.for_operation(self.operation_id)
        self.meter = meter
        if not spend(meter, now, waited=waited):
            return False
        if not meter.is_granted:
            self.worker.stats[UNGRANTED] += 1
        self.has_spent = True
        self.limit_lines = meter.fields(now)
        return True

    @property
    def expects_body(self) -> bool:
        """Whether a part of the request's body is still to come."""
        return self.body is not None

    # --- towards the upstream -----------------------------------------------------------------------------------

    def _forward(self) -> None:
        """Read what of the body came with the head, so that the upstream hears nothing if it is wrong; then connect."""
        if self.body is not None:
            self.client.read_body(self)
            if self.ended:
                return
        target = self._version.target
        pool = target.pool or self.worker.pools.of(target)
        connection = pool.take(self.connected, fresh=self.retried)
        if connection is not None:
            self.connected(connection)
        else:
            self.client.wait()

    def connected(self, connection: UpstreamConnection | None, trouble: CannotConnect | None = None) -> None:
        """The pool's answer."""
        if self.ended:
            if connection is not None:
                connection.release()
            return
        if connection is None:
            assert trouble is not None, "one or the other"
            self.attempts = (*self.attempts, attempt(self, None, trouble.code, trouble.stage))
            self._give_up(trouble.code, trouble.detail)
            return
        self.connection = connection
        if not self.slot:
            self._hold()
        self.sent_at = time.monotonic_ns()
        connection.send(self, self._request(), has_body=self.head.body_length != 0)
        if self.head.block.expects_continue and not self.retried and self.body is not None:
            self.client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.client.proceed()

    def _hold(self) -> None:
        """Have the call on disk before its upstream hears of it: from here on it has a row, whatever happens."""
        worker, caller = self.worker, self.caller or NOBODY
        calls = worker.recorder.calls
        if calls is None:
            return
        self.known = known = what_is_known(self)
        self.slot = calls.hold(known, method_number(self.head), caller.flags, self.client.address_of(self.head))
        worker.stats[GENERATED] += 1

    def note(self) -> None:
        """Keep how far the call has come: the best that can be said of it if this process dies."""
        calls = self.worker.recorder.calls
        if self.slot > 0 and calls is not None and not self.ended:
            calls.progress(self.slot, self.bytes_in, self.bytes_out, self.status)

    def _request(self) -> bytes:
        """The request and what of its body is there."""
        first, self.first = self.first, b""
        if self.head.body_length == CHUNKED:
            first = self._coded(first, last=self.body is None)
        return rebuilt_request(self, first)

    def client_data(self, data: bytes) -> bytes:
        """More of the request's body. Returns what follows the body."""
        body = self.body
        assert body is not None, "only called while there is a body to come"
        try:
            payload, rest = body.feed(data)
        except Malformed as error:
            self.client.keep_alive = False
            self.refuse(BY_CODE[error.code], error.detail)
            return b""
        self.bytes_in += len(payload)
        if self.head.body_length == CHUNKED and self.bytes_in > self._version.document.max_body_bytes:
            self.client.keep_alive = False
            self._not_admitted(too_large(self._version))
            return b""
        if body.done:
            self.body = None
        if self.connection is None:
            self.first += payload  # what came before there is anybody to ask for a connection; the rest waits for it
        else:
            self._send_body(payload, last=body.done)
        return rest

    def _send_body(self, payload: bytes, *, last: bool) -> None:
        assert self.connection is not None, "checked by the caller"
        if self.head.body_length == CHUNKED:
            payload = self._coded(payload, last=last)
        if payload:
            self.connection.send_more(payload, last=last)

    @staticmethod
    def _coded(payload: bytes, *, last: bool) -> bytes:
        return (chunk(payload) if payload else b"") + (LAST_CHUNK if last else b"")

    def upstream_blocked(self, *, blocked: bool) -> None:
        """The upstream takes no more of the body for now, or does again."""
        self.client.hold_reading(hold=blocked)

    # --- from the upstream --------------------------------------------------------------------------------------

    def informed(self, head: ResponseHead) -> None:
        """An interim response. 100 was answered by us; others, such as 103, are passed on."""
        if head.status != 100 and self.head.is_http11:
            self.client.write(head.status_line + head.lines + b"\r\n")

    def answered(self, head: ResponseHead, payload: bytes, *, done: bool) -> None:
        """The response's head and as much of its body as came with it."""
        self.upstream_status = self.status = head.status
        self.responding = True
        if self.body is not None:
            # Answered before the request was whole: what is still to come has nowhere to go.
            self.client.keep_alive = False
        self.bytes_out = len(payload)
        parts = self._response_head(head)
        parts.append(chunk(payload) if self.chunked_response and payload else payload)
        if done:
            self._end_relay(b"".join(parts))
        else:
            self.client.write(b"".join(parts))

    def _response_head(self, head: ResponseHead) -> list[bytes]:
        framing = b""
        if head.length >= 0:
            if not self.is_head and head.status not in (204, 304):
                framing = b"Content-Length: %d\r\n" % head.length
        elif self.head.is_http11:
            self.chunked_response = True
            framing = b"Transfer-Encoding: chunked\r\n"
        else:
            self.client.keep_alive = False
        lines = head.lines if self.fork is None else self.fork.varied(head.lines)
        if not head.block.is_dated:  # RFC 9110 section 6.6.1
            lines += self.worker.date_line()
        return [head.status_line, lines, framing, *self._own_lines(), b"\r\n"]

    def _own_lines(self) -> tuple[bytes, ...]:
        """The fields that every response of ours carries."""
        version = self.version
        return (
            b"X-Request-Id: ", self.id_text, b"\r\n",
            self.limit_lines,
            version.extra_lines if version is not None else b"",
            self.client.connection_line(self.head.is_http11),
        )  # fmt: skip

    def may_switch(self, head: ResponseHead) -> bool:
        if not self.upgrade or head.upgrade.lower() != self.upgrade:
            return False
        return self.upgrade != WEBSOCKET or accepts(head.lines, field(self.head, b"sec-websocket-key")[0])

    def switched(self, head: ResponseHead, transport: asyncio.Transport, rest: bytes) -> None:
        """The upstream has switched protocols: from here on it is a tunnel."""
        self.connection = None
        self.status = self.upstream_status = head.status
        self.responding = True
        self.client.switch(
            Tunnel(self, self.client, transport),
            b"".join(
                (
                    head.status_line,
                    b"Connection: Upgrade\r\nUpgrade: %b\r\n" % self.upgrade,
                    head.lines, b"X-Request-Id: ", self.id_text, b"\r\n", self.limit_lines, b"\r\n",
                )
            ),
            rest,
        )  # fmt: skip

    def end_tunnel(self, outcome: Outcome, trail: bytes) -> None:
        """Record the call; ``bytes_in`` and ``bytes_out`` are what went through the tunnel."""
        self._end(outcome, trail)

    def _found_again(self, now: float) -> Version | None:
        """The call's version as it is now, and with it its caller. None if there is no sound configuration to ask."""
        runtime = self.worker.runtime
        if not runtime.refresh():
            return None  # it was let in by a sound one; a new one will tell
        version = runtime.version(self._version.id)
        if version is None or version.is_retired:
            raise Refusal("version_retired")
        if version.is_keyed:
            self.caller = identify(runtime, version, find_key(self.head), self.worker.pepper, now)
        return version

    def recheck(self, now: float) -> Refusal | None:
        """Why a call that is under way may not go on, if it may not: the configuration or the time has moved."""
        try:
            self._found_again(now)
        except Refusal as refusal:
            return refusal
        except Exception:
            log.exception("Call %s, under way, could not be checked again", self.id_text.decode())
            return Refusal("internal_error")
        return None

    def break_off(self, refusal: Refusal) -> None:
        """End a call that is under way, for its caller may not have it any more."""
        self._leave_line()
        self.refuse(refusal.outcome, refusal.detail, refusal.lines)

    def continued(self, payload: bytes, *, done: bool) -> None:
        """More of the response's body."""
        self.bytes_out += len(payload)
        if self.chunked_response:
            payload = chunk(payload) if payload else b""
        if done:
            self._end_relay(payload)
        else:
            self.client.write(payload)

    def _end_relay(self, data: bytes) -> None:
        """Record the call, then write its last bytes."""
        if self.chunked_response:
            data += LAST_CHUNK
        self.ended_ns = time.monotonic_ns()
        connection, self.connection = self.connection, None  # it may be another's while this end waits for the disk
        assert connection is not None, "the response came over it"
        self._end(_OK, self._upstreams_own_failure(connection) if self.upstream_status >= 500 else b"")
        if connection.in_step and self.body is None and not may_be_ignored(self.head):
            connection.release()
        else:
            connection.close()
        self._finish(data)

    def _upstreams_own_failure(self, connection: UpstreamConnection) -> bytes:
        self.attempts = (*self.attempts, attempt(self, connection, _OK.code))
        return explain(self, _OK, f"The upstream itself answered {self.upstream_status}.")

    def failed(self, code: str, detail: str) -> None:
        """The upstream could not be asked, or its answer could not be used."""
        connection, self.connection = self.connection, None
        if self.ended:
            return
        self.attempts = (*self.attempts, attempt(self, connection, code))
        if connection is not None and self._may_retry(connection, code):
            self.retried = True
            self._forward()
            return
        self._give_up(code, detail)

    def _give_up(self, code: str, detail: str) -> None:
        if self.responding:
            outcome = BY_CODE["upstream_aborted" if code != "upstream_timeout" else code]
            self._end(outcome, explain(self, outcome, detail))
            self.client.abort()
        else:
            self.refuse(BY_CODE[code], detail, b"Retry-After: 1\r\n" if code in _SOON_OVER else b"")

    def _may_retry(self, connection: UpstreamConnection, code: str) -> bool:
        """A kept connection may close of old age as we write: then the upstream has not begun, and nothing is lost."""
        return (
            code == "upstream_unreachable"
            and connection.reused
            and not self.retried
            and not self.head.body_length
            and self.head.method in _IDEMPOTENT
        )

    # --- the end ------------------------------------------------------------------------------------------------

    def refuse(self, outcome: Outcome, detail: str, lines: bytes = b"") -> None:
        """Answer with a problem document."""
        if self.ended:
            return
        self._note_attempt(outcome)
        if self.responding:
            self._end(outcome, explain(self, outcome, detail))
            self._drop_upstream()
            self.client.abort()
            return
        self.status = outcome.status
        if outcome.status in _COME_BACK and b"Retry-After" not in lines:
            lines = b"Retry-After: 1\r\n" + lines
        if self.body is not None and not self.client.swallow(self.body):
            self.client.keep_alive = False  # the rest of the body would have to be read for nothing
        if self.fork is not None:
            lines = self.fork.varied(lines)
        body = problem_body(outcome, detail, self.id_text.decode(), self.worker.outcome_pages)
        fields = b"".join((self.worker.date_line(), lines, *self._own_lines()))
        head = problem_head(outcome.status, len(body), fields) + b"\r\n"
        sent = b"" if self.is_head else body
        self.bytes_out = len(sent)
        self._end(outcome, explain(self, outcome, detail))
        self._drop_upstream()
        self._finish(head + sent)

    def _finish(self, data: bytes) -> None:
        """Write the last of the answer, where durability is strict not before the call's record is on the disk."""
        syncer = self.worker.syncer
        if syncer is None or self.slot <= 0:  # a call that was not passed on is promised nothing
            self.client.finish(data)
        else:
            syncer.after(partial(self._synced, data))

    def _synced(self, data: bytes, is_on_disk: bool) -> None:
        if not is_on_disk:
            self.worker.could_not_sync()
        if self.client.transport.is_closing():
            return
        if is_on_disk:
            self.client.finish(data)
        else:
            self.client.abort()

    def client_lost(self) -> None:
        """The caller closed the connection."""
        if self.ended:
            return
        self.status = self.status or _CLIENT_CLOSED_REQUEST
        self._leave_line()
        self._note_attempt(_CLIENT_ABORTED)
        self._end(_CLIENT_ABORTED, explain(self, _CLIENT_ABORTED, ""))
        self._drop_upstream()

    def client_timed_out(self) -> None:
        """The caller stopped sending the body, or waited for a connection longer than the upstream may take."""
        if self.body is not None and self.connection is not None:
            self.client.keep_alive = False
            self.refuse(BY_CODE["request_timeout"], "")
        else:
            self._leave_line()
            self.refuse(BY_CODE["upstream_saturated"], "", b"Retry-After: 1\r\n")

    def _leave_line(self) -> None:
        """Wait for a connection no longer: the place is another's."""
        pool = self.version.target.pool if self.version is not None else None
        if pool is not None and self.connection is None:
            pool.give_up(self.connected)

    def _note_attempt(self, outcome: Outcome) -> None:
        """Remember how far the upstream had come when somebody else ended the call."""
        if self.connection is not None:
            self.attempts = (*self.attempts, attempt(self, self.connection, outcome.code))

    def _drop_upstream(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def _end(self, outcome: Outcome, trail: bytes = b"") -> None:
        self.ended = True
        if self.sent_at:  # never 0 then: it says in the record that the upstream was asked
            self.upstream_us = max(1, ((self.ended_ns or time.monotonic_ns()) - self.sent_at) // 1000)
        meter = self.meter
        if self.has_spent and meter is not None and (meter.slots_held or outcome is not _OK or self.status >= 500):
            meter.ended(counts=self._counts(outcome, meter), began=self.started_at)
        worker = self.worker
        worker.stats[outcome_word(outcome.number)] += 1
        worker.record(record_of(self, outcome, trail), self.slot)

    def _counts(self, outcome: Outcome, meter: Meter) -> bool:
        """Whether it counts against quotas: not if the upstream was never asked; if it failed, as the plan says.

        A refusal that its caller brings about once the upstream was asked, as by a broken body, buys nothing back.
        """
        if not self.sent_at and (outcome.refusal or outcome is _CLIENT_ABORTED):
            return False
        return meter.counts_failures or (self.status < 500 and not outcome.code.startswith("upstream_"))
