"""A connection that has switched protocols: bytes both ways under back-pressure, watched, counted and recorded.

Both sides' transports are given protocols of their own here, so that nothing of HTTP is in the way of the bytes. The
call is recorded once, when the tunnel ends.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from apimgr.contracts.outcomes import BY_CODE, Outcome
from proxy.dataplane.http.websocket import GOING_AWAY, POLICY_VIOLATION, FrameReader, Violation, close_frame
from proxy.dataplane.timers import Timed
from proxy.dataplane.trail import Step, written

if TYPE_CHECKING:
    from proxy.dataplane.exchange import Exchange
    from proxy.dataplane.listener import ClientConnection

_OK: Final = BY_CODE["ok"]
_CLOSING_SECONDS: Final = 2.0
LAST_BYTES_SECONDS: Final = 30.0  # for one side to take what the other sent before it left


class Side(asyncio.Protocol):
    """One end of a tunnel."""

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport, name: str) -> None:
        self.tunnel = tunnel
        self.transport = transport
        self.name = name
        self.bytes = 0
        self.reader: FrameReader | None = None
        self.has_ended = False
        self.is_gone = False

    def data_received(self, data: bytes) -> None:
        self.tunnel.received(self, data)

    def eof_received(self) -> bool:
        return self.tunnel.half_closed(self)

    def pause_writing(self) -> None:
        self.tunnel.other(self).transport.pause_reading()

    def resume_writing(self) -> None:
        other = self.tunnel.other(self).transport
        if not other.is_closing():
            other.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.tunnel.lost(self, exc)


class Tunnel(Timed):
    """``messages_in`` and ``messages_out`` are counted of WebSocket; other protocols are opaque."""

    def __init__(self, exchange: Exchange, client: ClientConnection, upstream: asyncio.Transport) -> None:
        self.exchange = exchange
        self._connection = client
        self._worker = client.worker
        self._version = exchange.version
        assert self._version is not None, "a tunnel is that of a version"
        document = self._version.document
        self._idle_seconds = document.tunnel_idle_ms / 1000
        self._client = Side(self, client.transport, "caller")
        self._upstream = Side(self, upstream, "upstream")
        self._closing = False
        if exchange.upgrade == b"websocket":
            most = document.max_message_bytes
            self._client.reader = FrameReader(masked=True, max_message_bytes=most)
            self._upstream.reader = FrameReader(masked=False, max_message_bytes=most)

    def open(self, from_client: bytes, from_upstream: bytes) -> None:
        """Take both transports over, with what has already come of either side."""
        self._client.transport.set_protocol(self._client)
        self._upstream.transport.set_protocol(self._upstream)
        self._client.transport.resume_reading()
        if self._client.transport.get_write_buffer_size() > self._client.transport.get_write_buffer_limits()[1]:
            self._upstream.transport.pause_reading()  # until the caller has taken what waits for it already
        else:
            self._upstream.transport.resume_reading()
        self._worker.tunnels.add(self)
        self._worker.wheel.arm(self, self._idle_seconds)
        if from_upstream:
            self.received(self._upstream, from_upstream)
        if from_client:
            self.received(self._client, from_client)

    def other(self, side: Side) -> Side:
        return self._upstream if side is self._client else self._client

    # --- what the sides report ----------------------------------------------------------------------------------

    def received(self, side: Side, data: bytes) -> None:
        if self._closing:
            return
        if side.reader is not None:
            try:
                side.reader.feed(data)
            except Violation as violation:
                self._close(BY_CODE["tunnel_violation"], violation.code, f"the {side.name} sent {violation.reason}")
                return
        side.bytes += len(data)
        self._worker.wheel.arm(self, self._idle_seconds)
        target = self.other(side).transport
        if not target.is_closing():
            target.write(data)

    def half_closed(self, side: Side) -> bool:
        """A side sends no more. Of an opaque protocol the other may still have something to say."""
        side.has_ended = True
        other = self.other(side)
        if side.reader is not None or other.has_ended or self._closing:
            other.transport.close()
            return False
        if other.transport.can_write_eof() and not other.transport.is_closing():
            other.transport.write_eof()
        return True

    def lost(self, side: Side, exc: Exception | None) -> None:
        if side is self._client:
            self._connection.connection_lost(exc)
        side.is_gone = True
        other = self.other(side)
        self._end(_OK, f"the {side.name} closed the connection")
        if other.is_gone:
            self._worker.wheel.disarm(self)
            return
        other.transport.close()
        if not self._closing:  # else its time is running already
            self._closing = True
            self._worker.wheel.arm(self, LAST_BYTES_SECONDS)

    def deadline_passed(self) -> None:
        if self._closing:
            self._client.transport.abort()
            self._upstream.transport.abort()
        else:
            self._close(_OK, GOING_AWAY, f"nothing was sent for {self._idle_seconds:.0f} s")

    # --- what the worker asks for -------------------------------------------------------------------------------

    def note(self) -> None:
        """Have what went through until now on disk, in case this process does not live to record it."""
        self.exchange.bytes_in, self.exchange.bytes_out = self._client.bytes, self._upstream.bytes
        self.exchange.note()

    def recheck(self, now: float) -> None:
        """End it if its caller may not have it any more."""
        self.note()
        refusal = self.exchange.recheck(now)
        if refusal is not None:
            self._close(refusal.outcome, POLICY_VIOLATION, refusal.detail or refusal.outcome.title)

    def drain(self) -> None:
        """The worker is leaving; whoever connects again is served by its successor."""
        self._close(_OK, GOING_AWAY, "the gateway is restarting")

    def _close(self, outcome: Outcome, code: int, reason: str) -> None:
        """Tell both sides where that can be said, then close."""
        if self._closing:
            return
        self._closing = True
        self._end(outcome, reason)
        for side in (self._client, self._upstream):
            # What was passed to this side came of the other: between its frames ours may stand.
            passed = self.other(side).reader
            if passed is not None and passed.at_boundary and not passed.is_closed and not side.transport.is_closing():
                side.transport.write(close_frame(code, reason, masked=side is self._upstream))
            side.transport.close()
        self._worker.wheel.arm(self, _CLOSING_SECONDS)

    def _end(self, outcome: Outcome, reason: str) -> None:
        exchange = self.exchange
        if exchange.ended:
            return
        self._worker.tunnels.discard(self)
        if not self._closing:
            self._worker.wheel.disarm(self)
        exchange.bytes_in, exchange.bytes_out = self._client.bytes, self._upstream.bytes
        exchange.end_tunnel(outcome, self._trail(outcome, reason))

    def _trail(self, outcome: Outcome, reason: str) -> bytes:
        step: Step = {"step": "tunnel", "protocol": self.exchange.upgrade.decode()}
        if self._client.reader is not None and self._upstream.reader is not None:
            step |= {"messages_in": self._client.reader.messages, "messages_out": self._upstream.reader.messages}
        steps = [step | {"ended": reason}]
        if outcome is not _OK:
            steps.append({"step": "ended", "code": outcome.code, "detail": reason})
        return written(steps)
