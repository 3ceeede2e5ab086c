"""Client connections: bytes in, one exchange at a time, bytes out."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, cast

from apimgr.contracts.addresses import Address
from apimgr.contracts.outcomes import BY_CODE
from proxy.dataplane.exchange import Exchange
from proxy.dataplane.http.body import BodyReader
from proxy.dataplane.http.malformed import Malformed
from proxy.dataplane.http.pieces import worth_another_try
from proxy.dataplane.http.request import RequestHead, parse_request, unreadable_head
from proxy.dataplane.policies.forwarding import Caller, caller_behind, host_line, is_trusted, lines_for, packed, plain
from proxy.dataplane.stats import CONNECTIONS, CONNECTIONS_REFUSED
from proxy.dataplane.timers import NEVER, Timed

if TYPE_CHECKING:
    from proxy.dataplane.tunnel import Tunnel
    from proxy.dataplane.worker import Worker

HEAD_SECONDS: Final = 10.0
IDLE_SECONDS: Final = 60.0
LEAVING_IDLE_SECONDS: Final = 10.0
BODY_WINDOW_SECONDS: Final = 10.0  # the first is grace; in each further one a body must come on
BODY_BYTES_PER_WINDOW: Final = 5_000
UPSTREAM_WAIT_SECONDS: Final = 30.0
WRITE_STALL_SECONDS: Final = 30.0
LEAST_TAKEN_PER_WINDOW: Final = 15_000  # bytes of an answer, in each WRITE_STALL_SECONDS
HALF_CLOSED_SECONDS: Final = 1.0
_LINGER_SECONDS: Final = 2.0
_MAX_BUFFERED: Final = 64 * 1024
_IN_A_TURN: Final = 4  # requests begun one after the other; then it is others' turn (``turns``)


class ClientConnection(asyncio.Protocol, Timed):
    """Reads requests, hands them to an ``Exchange`` one after the other, and writes what it is given."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.keep_alive = True
        self._wheel = worker.wheel
        self._exchange: Exchange | None = None
        self._buffer = b""
        self._parsing = False
        self._in_head = True
        self._tried = 0  # bytes of a head that was found incomplete
        self._reading_held = False
        self._upstream_blocked = False
        self._writing_blocked = False
        self._awaits_turn = False
        self._lingering = False
        self._heard_all = False
        self._unsent = 0  # bytes of an answer that waited for the caller at the start of this window
        self._body_mark = -1  # bytes of the body at the start of this window; -1: no body, -2: none looked at yet

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._peer = _address(transport.get_extra_info("peername"))
        self.address = packed(self._peer) if self._peer is not None else bytes(16)
        self._peer_lines = lines_for([self._peer or "unknown"])
        trusted = self.worker.trusted_proxies
        self.is_proxy = bool(trusted) and self._peer is not None and is_trusted(self._peer, trusted)
        self._forwarded_host, self._forwarded_lines = "", b""
        self.worker.connections.add(self)
        self.worker.stats[CONNECTIONS] += 1
        of_this_address = self.worker.addresses.get(self.address, 0) + 1
        self.worker.addresses[self.address] = of_this_address
        if len(self.worker.connections) > self.worker.max_connections:
            self.worker.stats[CONNECTIONS_REFUSED] += 1
            self._refuse_unread("gateway_overloaded", "", b"Retry-After: 1\r\n")
        elif 0 < self.worker.max_per_address < of_this_address:
            self.worker.stats[CONNECTIONS_REFUSED] += 1
            self._refuse_unread("too_many_connections", "", b"Retry-After: 1\r\n")
        else:
            self._wheel.arm(self, HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wheel.disarm(self)
        self.worker.stats[CONNECTIONS] -= 1
        self.worker.connections.discard(self)
        self.worker.address_left(self.address)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_lost()

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        if self._buffer:
            data = self._buffer + data
        self._buffer = data
        if self._exchange is None:
            self._parse()
            if self._buffer:
                self._regulate()  # a pipeline of refusals to someone who reads none of them
        else:
            self._feed()

    def eof_received(self) -> bool:
        """The caller sends no more, and nothing says whether it still reads.

        A whole request, and each that is whole behind it, is therefore answered if the answer begins soon; later, the
        caller counts as gone.
        """
        exchange = self._exchange
        if exchange is None:
            if self._buffer and not self._lingering:
                self._refuse_cut_off()
            return False
        self._heard_all = True
        if not exchange.responding:
            self._wheel.arm(self, HALF_CLOSED_SECONDS)
        return not exchange.expects_body

    def pause_writing(self) -> None:
        self._writing_blocked = True
        self._watch_writing()
        if self._exchange is not None and self._exchange.connection is not None:
            self._exchange.connection.pause()

    def resume_writing(self) -> None:
        self._writing_blocked = False
        self._wheel.disarm(self)
        exchange = self._exchange
        if self._lingering:
            self._wheel.arm(self, _LINGER_SECONDS)
        elif self.transport.is_closing():
            self._watch_writing()
        elif exchange is not None and exchange.connection is not None:
            exchange.connection.resume()
            if exchange.body is not None:  # answered early: the body's clock stood still for the answer's
                self._watch_body(exchange)
        elif exchange is None:
            self._wheel.arm(self, self.worker.idle_seconds)
            self._parse()
            self._regulate()

    def deadline_passed(self) -> None:
        exchange = self._exchange
        if self._lingering or self._writing_blocked or self.transport.is_closing():
            self._writing_window_ended()
        elif self._heard_all:
            if exchange is None or not exchange.responding:
                self.transport.abort()
        elif exchange is not None and exchange.expects_body and exchange.connection is not None:
            self._body_window_ended(exchange)
        elif exchange is not None:
            exchange.client_timed_out()
        elif self._buffer:
            self._refuse_unread("request_timeout", f"The request head was not complete within {HEAD_SECONDS:.0f} s.")
        else:
            self._leave()

    # --- for the exchange ---------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    def wait(self) -> None:
        """The exchange waits for an upstream connection."""
        self._wheel.arm(self, HALF_CLOSED_SECONDS if self._heard_all else UPSTREAM_WAIT_SECONDS)

    def proceed(self) -> None:
        """The exchange has its upstream: the body may flow."""
        if self.deadline != NEVER and not self._heard_all:
            self._wheel.disarm(self)
        exchange = self._exchange
        if self._buffer:
            self._feed()
        if exchange is not None and exchange.body is not None and exchange is self._exchange:
            self._watch_body(exchange)  # also if nothing has come: the upstream's clock stands still for it

    def hold_reading(self, *, hold: bool) -> None:
        """The upstream takes no more of the body for now, or does again."""
        self._upstream_blocked = hold
        self._regulate()

    def _regulate(self) -> None:
        """Read from the caller only what has somewhere to go."""
        hold = self._upstream_blocked or self._awaits_turn or len(self._buffer) > _MAX_BUFFERED
        if self._writing_blocked and self._exchange is None and self._buffer:
            hold = True  # else an end of all that is sent would be heard before what came first
        if hold != self._reading_held:
            self._reading_held = hold
            if hold:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def forwarded_lines(self, head: RequestHead) -> bytes:
        """What the upstream is told of the caller. Callers seldom change the host within a connection."""
        if self.is_proxy:
            caller = self.caller_behind(head)
            return caller.lines + host_line(caller.host)
        host = head.authority
        if host != self._forwarded_host or not self._forwarded_lines:
            self._forwarded_host = host
            self._forwarded_lines = self._peer_lines + host_line(host)
        return self._forwarded_lines

    def address_of(self, head: RequestHead) -> bytes:
        """The caller's address for the record."""
        return self.caller_behind(head).address if self.is_proxy else self.address

    def caller_behind(self, head: RequestHead) -> Caller:
        """Whom the peer, a trusted proxy, speaks for."""
        assert self._peer is not None, "a proxy has an address"
        return caller_behind(
            self._peer, head.forwarded + head.block.forwarded, head.authority, self.worker.trusted_proxies
        )

    def read_body(self, exchange: Exchange) -> None:
        """Give the exchange what is there of its body."""
        data, self._buffer = self._buffer, b""
        if data:
            rest = exchange.client_data(data)
            if self._exchange is exchange:
                self._buffer = rest
                self._regulate()

    def swallow(self, body: BodyReader) -> bool:
        """Read the body of a refused request out of the buffer. False if it is not all there."""
        try:
            _, self._buffer = body.feed(self._buffer)
        except Malformed:
            return False
        return body.done

    def connection_line(self, is_http11: bool) -> bytes:
        """What the response says about the connection."""
        if not self.keep_alive or self.worker.draining or (self._heard_all and not self._buffer):
            self.keep_alive = False
            return b"Connection: close\r\n"
        return b"" if is_http11 else b"Connection: keep-alive\r\n"

    def finish(self, data: bytes) -> None:
        """Write the last of a response and go on to the next request."""
        exchange, self._exchange = self._exchange, None
        self.write(data)
        if not self.keep_alive or (self._heard_all and not self._buffer):
            self._close(unread=exchange is None or exchange.body is not None)
            return
        if not self._writing_blocked:  # else the clock runs for the answers that are not taken
            self._wheel.arm(self, self.worker.idle_seconds)
        if self._reading_held:
            self.hold_reading(hold=False)
        if self._buffer and not self._parsing:
            self._await_turn()  # a call that failed may be one of many that are told so in one go, again and again
            self._regulate()

    def switch(self, tunnel: Tunnel, head: bytes, from_upstream: bytes) -> None:
        """Answer with ``head`` and leave the connection to ``tunnel``; only its end comes back here."""
        self._exchange = None
        self.write(head)
        self._wheel.disarm(self)  # the tunnel has a clock of its own
        data, self._buffer = self._buffer, b""
        tunnel.open(data, from_upstream)

    def recheck(self, now: float) -> None:
        """Break off a call whose caller may not have it any more, wherever it has come to."""
        exchange = self._exchange
        if exchange is not None and not exchange.ended:
            exchange.note()
            refusal = exchange.recheck(now)
            if refusal is not None:
                exchange.break_off(refusal)

    def abort(self) -> None:
        """Break the connection off: the only way left to say that a response is not whole."""
        self._exchange = None
        self.transport.abort()

    def drain(self, *, politely: bool) -> None:
        """The worker is leaving: close if idle, else after the next response that can say so.

        On a connection that looks idle a request may be on its way. ``politely`` waits for it a while.
        """
        if self._exchange is not None or self._buffer:
            return
        if politely:
            self._wheel.arm(self, self.worker.idle_seconds)
        else:
            self._leave()

    # --- reading ------------------------------------------------------------------------------------------------

    def _parse(self) -> None:
        """Begin exchanges with what is in the buffer. A loop, as refusals answer at once and pipelines are long."""
        self._parsing = True
        begun = 0
        try:
            while self._exchange is None and self._buffer and self._may_begin():
                if begun == _IN_A_TURN:
                    self._await_turn()
                    break
                if not self._begin_next() or self.transport.is_closing():
                    break
                begun += 1
        finally:
            self._parsing = False

    def _may_begin(self) -> bool:
        return not (self._lingering or self._writing_blocked or self._awaits_turn)

    def _await_turn(self) -> None:
        if not self._awaits_turn:
            self._awaits_turn = True
            self.worker.turns.wait(self._have_turn)

    def _have_turn(self) -> None:
        self._awaits_turn = False
        if not self.transport.is_closing():
            self._parse()
            self._regulate()

    def _begin_next(self) -> bool:
        """Begin an exchange with the request at the start of the buffer. False if there is none that is whole."""
        if self._tried and not worth_another_try(self._buffer, self._tried):
            return False
        try:
            head = parse_request(self._buffer)
        except Malformed as error:
            self._refuse_unread(error.code, error.detail)
            return False
        if head is None and self._heard_all:
            self._refuse_cut_off()
            return False
        if head is None:
            self._tried = len(self._buffer)
            if not self._in_head:  # once per head: a trickle must not buy time
                self._in_head = True
                self._wheel.arm(self, HEAD_SECONDS)
            return False
        self._buffer = self._buffer[head.size :]
        self._tried = 0
        self.keep_alive = head.block.keep_alive and not self.worker.draining
        self._in_head = False
        self._wheel.disarm(self)
        self._exchange = exchange = Exchange(self, head)
        exchange.begin()
        if self._serves(exchange) and self._buffer:
            self._feed()
        if self._serves(exchange) and self._heard_all:
            self._last_of_a_pipeline(exchange)
        return True

    def _serves(self, exchange: Exchange) -> bool:
        """Whether ``exchange`` is still under way. A call, since to types it would be so whatever was called before."""
        return self._exchange is exchange

    def _last_of_a_pipeline(self, exchange: Exchange) -> None:
        """The caller had closed its side before this request's turn came."""
        if exchange.expects_body:
            self.transport.close()
        elif not exchange.responding:
            self._wheel.arm(self, HALF_CLOSED_SECONDS)

    def _feed(self) -> None:
        """Give the exchange its body; keep what belongs to the next request."""
        exchange = self._exchange
        if exchange is not None and exchange.body is not None and exchange.connection is not None and self._buffer:
            self.read_body(exchange)
            if self._exchange is exchange:
                self._watch_body(exchange)
        self._regulate()

    def _watch_body(self, exchange: Exchange) -> None:
        """Have the body come at a rate that is no attack: looked at once per window, not per piece (H13)."""
        if self._writing_blocked:
            return  # the clock runs for the answer that the caller does not take
        if not exchange.expects_body:
            self._body_mark = -1
            self._wheel.disarm(self)
        elif self._body_mark == -1 or self.deadline == NEVER:
            self._body_mark = -2  # grace
            self._wheel.arm(self, BODY_WINDOW_SECONDS)

    def _body_window_ended(self, exchange: Exchange) -> None:
        came, self._body_mark = exchange.bytes_in - self._body_mark, exchange.bytes_in
        if came >= BODY_BYTES_PER_WINDOW or self._upstream_blocked or came > exchange.bytes_in:
            self._wheel.arm(self, BODY_WINDOW_SECONDS)
        else:
            exchange.client_timed_out()

    def _watch_writing(self) -> None:
        """Have the caller take what waits for it, or lose the connection."""
        self._unsent = self.transport.get_write_buffer_size()
        self._wheel.arm(self, WRITE_STALL_SECONDS)

    def _writing_window_ended(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if unsent and self._unsent - unsent >= LEAST_TAKEN_PER_WINDOW:
            self._watch_writing()
        else:
            self.transport.abort()

    def _leave(self) -> None:
        """Close once all is written. A transport would wait for the caller to take it for as long as it likes."""
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._watch_writing()

    def _refuse_cut_off(self) -> None:
        self._refuse_unread("bad_request", "The connection closed in the middle of a request head.")

    def _refuse_unread(self, code: str, detail: str, lines: bytes = b"") -> None:
        """Answer what could not be read as a request, and close: where the next one would start is unknown."""
        self.keep_alive = False
        exchange = Exchange(self, unreadable_head())
        exchange.refuse(BY_CODE[code], detail, lines)

    def _close(self, *, unread: bool) -> None:
        """Close once all is written.

        Closing while the caller still sends would make its kernel throw the answer away, so then we only stop writing
        and read on for a moment.
        """
        self._buffer = b""
        if not unread or self.transport.is_closing() or not self.transport.can_write_eof():
            self._leave()
            return
        self._lingering = True
        self._awaits_turn = False
        self.hold_reading(hold=False)
        self.transport.write_eof()
        if self.transport.get_write_buffer_size():
            self._watch_writing()
        else:
            self._wheel.arm(self, _LINGER_SECONDS)


def _address(peername: object) -> Address | None:
    return plain(ip_address(str(peername[0]).partition("%")[0])) if isinstance(peername, tuple) else None
