"""One connection to an upstream, serving one exchange at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, cast

from proxy.dataplane.http.body import BodyReader
from proxy.dataplane.http.malformed import Malformed
from proxy.dataplane.http.pieces import worth_another_try
from proxy.dataplane.http.response import MAX_INTERIM, UNTIL_CLOSE, ResponseHead, parse_response
from proxy.dataplane.timers import Timed

if TYPE_CHECKING:
    from proxy.dataplane.upstreams.pool import Pool


class Receiver(Protocol):
    """Who asked: told of each part of the response as it comes, and of failure exactly once."""

    is_head: bool
    body: BodyReader | None  # of the request, while a part of it is still to come

    def informed(self, head: ResponseHead) -> None: ...

    def answered(self, head: ResponseHead, payload: bytes, *, done: bool) -> None: ...

    def may_switch(self, head: ResponseHead) -> bool: ...

    def switched(self, head: ResponseHead, transport: asyncio.Transport, rest: bytes) -> None: ...

    def continued(self, payload: bytes, *, done: bool) -> None: ...

    def failed(self, code: str, detail: str) -> None: ...

    def upstream_blocked(self, *, blocked: bool) -> None: ...


class UpstreamConnection(asyncio.Protocol, Timed):
    """``reused`` is true once it has served: then a close before any byte of a response may be mere old age.

    ``in_step`` is true when a response ended where its framing said and the upstream keeps the connection: together
    with a request that was sent whole, that is what lets another exchange use it.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.receiver: Receiver | None = None
        self.reused = False
        self.resolve_s = self.connect_s = 0.0  # what opening it took
        self.heard = False
        self.in_step = False
        self._reads = True
        self._head: ResponseHead | None = None
        self._reader: BodyReader | None = None
        self._buffer = b""
        self._closed = False
        self._sent_body = False
        self._tried = self._interim = 0

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self.pool.wheel.disarm(self)
        self.pool.forget(self)
        self._ended(broken=exc is not None)

    def eof_received(self) -> bool:
        self._ended(broken=False)
        return False

    def pause_writing(self) -> None:
        """The upstream does not take what we send: from here its clock runs."""
        if self.receiver is not None:
            if self._reads:
                self.pool.wheel.arm(self, self.pool.read_timeout)
            self.receiver.upstream_blocked(blocked=True)

    def resume_writing(self) -> None:
        receiver = self.receiver
        if receiver is not None:
            if receiver.body is not None:
                self.pool.wheel.disarm(self)
            receiver.upstream_blocked(blocked=False)

    def data_received(self, data: bytes) -> None:
        receiver = self.receiver
        if receiver is None:
            # Bytes that answer nothing: whoever sent them, no request may be paired with them (H5).
            self.close()
            return
        self.heard = True
        try:
            if self._reader is None:
                self._read_head(receiver, data)
            else:
                self._read_body(receiver, data)
        except Malformed as error:
            self._fail("upstream_invalid", error.detail)
            return
        # Not for a part of a head, so that a trickle buys no time; nor while the caller still sends, whose time it is.
        if self._reader is not None and self.receiver is receiver and self._reads and receiver.body is None:
            self.pool.wheel.arm(self, self.pool.read_timeout)

    def deadline_passed(self) -> None:
        if self.receiver is None:
            self.close()
        else:
            self._fail("upstream_timeout", "The upstream did not answer in time.")

    # --- for the exchange ---------------------------------------------------------------------------------------

    def send(self, receiver: Receiver, data: bytes, *, has_body: bool) -> None:
        """Begin an exchange. While a body is still to come from the caller, the upstream has nothing to answer."""
        self.receiver = receiver
        self.heard = self.in_step = False
        self._sent_body = has_body and receiver.body is None
        self._head = self._reader = None
        self._buffer = b""
        self._tried = self._interim = 0
        if receiver.body is None:
            self.pool.wheel.arm(self, self.pool.read_timeout)
        else:
            self.pool.wheel.disarm(self)
        self.transport.write(data)

    def send_more(self, data: bytes, *, last: bool) -> None:
        """A part of the request's body."""
        if last:
            self._sent_body = True
            if self._reads:
                self.pool.wheel.arm(self, self.pool.read_timeout)
        self.transport.write(data)

    def pause(self) -> None:
        """Read no more until ``resume``: the client is slower than the upstream."""
        self._reads = False
        self.pool.wheel.disarm(self)
        self.transport.pause_reading()

    def resume(self) -> None:
        self._reads = True
        if self.receiver is None or self.receiver.body is None:
            self.pool.wheel.arm(self, self.pool.read_timeout)
        self.transport.resume_reading()

    def release(self) -> None:
        """The exchange is over and both sides are in step: the connection may serve another."""
        self.receiver = None
        self.reused = True
        if self._sent_body and self.transport.get_write_buffer_size():
            # Answered before it took the whole request: where it stands in it is unknown (H5).
            self.close()
            return
        if not self._reads:  # paused for a caller that had not yet taken all of the response
            self._reads = True
            self.transport.resume_reading()
        self.pool.put_back(self)

    def close(self) -> None:
        """Drop the connection; nobody is told."""
        self.receiver = None
        self._closed = True
        self.pool.wheel.disarm(self)
        self.pool.forget(self)
        self.transport.abort()

    @property
    def usable(self) -> bool:
        return not self._closed and not self.transport.is_closing()

    # --- reading ------------------------------------------------------------------------------------------------

    def _read_head(self, receiver: Receiver, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
            if not worth_another_try(data, self._tried):
                self._buffer = data
                return
        head = parse_response(data, to_head=receiver.is_head)
        if head is None:
            self._buffer = data
            self._tried = len(data)
            return
        rest = data[head.size :]
        if head.status < 200:
            self._buffer = b""
            self._tried = 0
            self._read_interim(receiver, head, rest)
            return
        if head.length == len(rest):  # whole at once, as most are
            self.in_step = head.keep_alive
            receiver.answered(head, rest, done=True)
            return
        self._head = head
        self._reader = reader = head.body_reader()
        payload, extra = reader.feed(rest)
        if reader.done:
            # Anything after the response would be taken for the next one's: such a connection ends here.
            self.in_step = head.keep_alive and not extra
        receiver.answered(head, payload, done=reader.done)

    def _read_interim(self, receiver: Receiver, head: ResponseHead, rest: bytes) -> None:
        if head.status == 101:
            self._switch(receiver, head, rest)
            return
        self._interim += max(head.size, 1024)
        if self._interim > MAX_INTERIM:
            raise Malformed("upstream_invalid", "The upstream sent too many interim responses.")
        if self._reads and receiver.body is None:
            self.pool.wheel.arm(self, self.pool.read_timeout)
        receiver.informed(head)
        if rest and self.receiver is receiver:
            self._read_head(receiver, rest)

    def _switch(self, receiver: Receiver, head: ResponseHead, rest: bytes) -> None:
        """Hand the connection over to a tunnel, if that is what the caller asked for and the answer is sound."""
        if not receiver.may_switch(head):
            raise Malformed("upstream_invalid", "The upstream switched protocols without being asked.")
        self.receiver = None
        self._closed = True
        self.pool.wheel.disarm(self)
        self.pool.forget(self)
        receiver.switched(head, self.transport, rest)

    def _read_body(self, receiver: Receiver, data: bytes) -> None:
        reader, head = self._reader, self._head
        assert reader is not None, "a head was read"
        assert head is not None, "a head was read"
        payload, extra = reader.feed(data)
        if reader.done:
            self.in_step = head.keep_alive and not extra
        if payload or reader.done:
            receiver.continued(payload, done=reader.done)

    def _ended(self, *, broken: bool) -> None:
        """The upstream sends no more: it closed its side, or the connection broke."""
        receiver, head, reader = self.receiver, self._head, self._reader
        if receiver is None:
            return
        if not broken and head is not None and head.length == UNTIL_CLOSE and reader is not None and not reader.done:
            reader.done = True
            self.in_step = False
            receiver.continued(b"", done=True)
        elif not self.heard:
            self._fail("upstream_unreachable", "The upstream closed the connection without an answer.")
        else:
            self._fail("upstream_aborted" if head is not None else "upstream_invalid", "The upstream stopped early.")

    def _fail(self, code: str, detail: str) -> None:
        receiver = self.receiver
        self.close()
        if receiver is not None:
            receiver.failed(code, detail)
