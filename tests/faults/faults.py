"""One function per fault. Each breaks something under load on a stage of its own and returns what the ledgers say.

``Scale`` says how much: little in the suite, at length in ``make faults``.
"""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from apimgr.contracts.usage import decode
from proxy.dataplane.replica.layout import MOST_DEATHS
from tests.faults.checker import Verdict
from tests.faults.load import request_head
from tests.faults.stage import Stage, wait_until
from tests.proxy.damage import point_beyond_the_end
from tests.stack import has_ended


@dataclass(frozen=True)
class Scale:
    """``between_kills``: calls that are answered, at least, before the next kill, so that each hits a node at work."""

    kills: int
    between_kills: int
    reloads: int
    outage_seconds: float
    rate: float
    idle: int  # connections; two slow ones come with each five


# The suite has four minutes for all of them, of which most go into starting nodes: about six seconds for each fault.
SHORT = Scale(kills=3, between_kills=100, reloads=5, outage_seconds=2.5, rate=200, idle=200)
LONG = Scale(kills=50, between_kills=500, reloads=100, outage_seconds=300, rate=300, idle=10_000)

Fault = Callable[[Stage, Scale, random.Random], Verdict]
FAULTS: dict[str, Fault] = {}


def fault(function: Fault) -> Fault:
    FAULTS[function.__name__] = function
    return function


# --- Our processes --------------------------------------------------------------------------------------------------
# A worker that was killed takes the calls on its connections with it, and no others: who connects until another one
# accepts waits in the queue.


@fault
def workers_and_agent_are_killed(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    load = stage.load(connections=32, rate=2 * scale.rate)
    stage.upstream.manner = "slow"  # so that calls are with it when they are cut off
    for _ in range(scale.kills):
        answered = load.answered
        wait_until(lambda goal=answered + scale.between_kills: load.answered >= goal, 60, "the node is at work again")
        time.sleep(chance.uniform(0, 0.3))
        if chance.random() < 2 / 3:
            with stage.excused_until_noticed():
                stage.node.kill("worker")
        else:
            stage.node.kill("agent")  # of which callers notice nothing
    return stage.verdict(load)


@fault
def one_worker_of_two_is_killed(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """The calls of the others go on; those on its connections break at once."""
    load = stage.load(rate=scale.rate)
    for _ in range(max(2, scale.kills // 10)):
        # A worker that dies young is not started again at once; without any, nobody's calls would go on.
        wait_until(lambda: len(stage.node.children("worker")) == 2, 30, "both workers are there")
        with stage.excused_until_noticed():
            victim = chance.choice(stage.node.children("worker"))
            victim.kill()
            wait_until(lambda victim=victim: has_ended(victim), 30, "it is gone, and its connections with it")
        time.sleep(1.2)
    return stage.verdict(load)


@fault
def the_supervisor_is_killed(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    load = stage.load(rate=scale.rate)
    for _ in range(max(1, scale.kills // 10)):
        time.sleep(chance.uniform(0.5, 1.5))
        with stage.excused_until_noticed():
            stage.node.kill_all()
            stage.node.start()
            stage.node.wait_ready()
        time.sleep(1)
    return stage.verdict(load)


@fault
def processes_stand_still(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """Stopped, and nobody has them go on. What a worker has waits until it is killed; of the agent nobody notices."""
    stage.restart(APIMGR_GATEWAY_STALL_SECONDS="2")
    load = stage.load(rate=scale.rate)
    for role in ("worker", "agent") * max(1, scale.kills // 10):
        wait_until(lambda: len(stage.node.children("")) == 3, 30, "all processes are there")
        stopped = chance.choice(stage.node.children(role))
        with stage.excused_until_noticed() if role == "worker" else contextlib.nullcontext():
            stopped.suspend()
            wait_until(lambda stopped=stopped: not stopped.is_running(), 30, f"the {role} is killed")
        time.sleep(1.2)
    wait_until(lambda: stage.node.admin("/ready")[0] == 200, 30, "the agent is back")
    return stage.verdict(load)


@fault
def reloads_under_load(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """Nothing is excused: not one call may fail."""
    load = stage.load(connections=32, rate=scale.rate)
    for _ in range(scale.reloads):
        before = {worker.pid for worker in stage.node.children("worker")}
        stage.node.process.send_signal(signal.SIGHUP)

        def are_replaced(before: set[int] = before) -> bool:
            now = {worker.pid for worker in stage.node.children("worker")}
            return len(now) == len(before) and not now & before

        wait_until(are_replaced, 45, "new workers have replaced the old ones")
    return stage.verdict(load)


@fault
def upgrades_under_load(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """The supervisor is replaced as well, and again nothing is excused."""
    load = stage.load(connections=32, rate=scale.rate)
    for _ in range(max(2, scale.reloads // 5)):
        stage.node.upgrade()
        time.sleep(chance.uniform(0, 0.5))
    return stage.verdict(load)


# --- The database and the control plane -----------------------------------------------------------------------------


@fault
def the_database_is_stopped(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """Calls go on as if nothing were; their records come later."""
    load = stage.load(rate=scale.rate)
    stage.database.stop()
    time.sleep(scale.outage_seconds)
    stage.database.start()
    time.sleep(1)
    return stage.verdict(load)


@fault
def the_database_is_killed(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    load = stage.load(rate=scale.rate)
    for _ in range(2):
        time.sleep(chance.uniform(0.3, 1))
        stage.database.kill()
        time.sleep(1)
        stage.database.start()
    return stage.verdict(load)


@fault
def the_database_freezes(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    load = stage.load(rate=scale.rate)
    with stage.database.frozen():
        time.sleep(min(scale.outage_seconds, 30))
    return stage.verdict(load, patience=120)


@fault
def the_database_takes_no_connections(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """Every slot is taken while the agent is killed, so that it cannot come back."""
    load = stage.load(rate=scale.rate)
    taken = []
    try:
        while True:
            taken.append(psycopg.connect(stage.database.url))
    except psycopg.OperationalError:
        stage.node.kill("agent")
        time.sleep(min(scale.outage_seconds, 10))
    finally:
        for connection in taken:
            connection.close()
    return stage.verdict(load)


@fault
def the_node_restarts_without_a_database(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """It serves by its last good replica, and the records arrive when the database is back."""
    load = stage.load(rate=scale.rate)
    stage.database.stop()
    with stage.excused_until_noticed():
        stage.node.kill_all()
        stage.node.start()
        stage.node.wait_ready()
    time.sleep(1)
    stage.database.start()
    return stage.verdict(load)


# --- What lies on the disk ------------------------------------------------------------------------------------------


@fault
def the_replica_is_damaged(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """Never served open: refused until it is rebuilt from the database."""
    load = stage.load(rate=scale.rate)
    with stage.excused_until_noticed():
        stage.node.stop()
        for file in stage.home.glob("node/gateway/replica/data-*/data.mdb"):
            body = bytearray(file.read_bytes())
            for _ in range(2000):
                body[chance.randrange(len(body))] ^= 0xFF
            file.write_bytes(body)
        stage.node.start()
        stage.node.wait_ready()
    time.sleep(1)
    return stage.verdict(load)


@fault
def the_replica_kills_its_readers(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """A page that is said to lie beyond the end of the file (SIGBUS): known by the deaths, then rebuilt as well."""
    load = stage.load(rate=scale.rate)
    with stage.excused_until_noticed():
        stage.node.stop()
        for file in stage.home.glob("node/gateway/replica/data-*/data.mdb"):
            point_beyond_the_end(file, b"plan:6")
        stage.node.start()
        wait_until(lambda: _deaths(stage) >= MOST_DEATHS, 60, "readers have died of it")
        wait_until(lambda: load.calls[-1].status == 200, 60, "it is rebuilt")
    time.sleep(1)
    return stage.verdict(load)


def _deaths(stage: Stage) -> int:
    return stage.node.log.read_text().count(f"ended with status {-signal.SIGBUS} ")


@fault
def the_spool_is_torn(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """A half-written frame behind the last whole one, as a power cut leaves it: whole records are all shipped."""
    load = stage.load(rate=scale.rate)
    stage.database.stop()
    time.sleep(1)
    with stage.excused_until_noticed():
        stage.node.kill_all()
        for path in _segments(stage):
            _tear(path, chance)
        stage.node.start()
        stage.node.wait_ready()
    stage.database.start()
    return stage.verdict(load)


@fault
def the_spool_is_flipped(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """Bytes of records that wait turn bad, while their segments are written: these records are set aside, no others."""
    load = stage.load(rate=scale.rate)
    stage.database.stop()
    since = {path: _end_of(path) for path in _segments(stage)}  # nothing from here on is shipped
    answered = load.answered
    wait_until(lambda: load.answered > answered + 100, 60, "records wait")
    waiting = [frame for path, start in since.items() for frame in _frames(path, start)]
    flipped = chance.sample(waiting, min(scale.kills, len(waiting) // 4))
    assert flipped
    for frame in flipped:
        frame.flip(chance)
    time.sleep(1)
    stage.database.start()
    verdict = stage.verdict(load, set_aside=[frame.request_id for frame in flipped])
    size = sum(len(frame.body) for frame in flipped)
    wait_until(lambda: stage.node.metric("set_aside_bytes_total") == size, 30, f"{size} bytes are counted as set aside")
    books, kept = stage.database.books(), [path.read_bytes() for path in _quarantine(stage)]
    assert (books["set_aside_bytes"], books["stored"]) == (size, verdict.rows), "the books say so"
    assert sum(map(len, kept)) == size
    assert all(any(frame.body in part for part in kept) for frame in flipped), "what was set aside is kept to look at"
    return verdict


@dataclass
class Frame:
    """A record as it lies in a segment."""

    path: Path
    start: int
    body: bytes
    request_id: str

    def flip(self, chance: random.Random) -> None:
        """One byte, whichever. Who has the file mapped sees it too."""
        at = chance.randrange(len(self.body))
        flipped = self.body[at] ^ chance.randrange(1, 256)
        self.body = self.body[:at] + bytes([flipped]) + self.body[at + 1 :]
        with self.path.open("r+b", buffering=0) as segment:
            segment.seek(self.start + at)
            segment.write(bytes([flipped]))


def _frames(path: Path, start: int) -> Iterator[Frame]:
    body = path.read_bytes()[start:]
    began = 0
    for end, record in decode(body):
        yield Frame(path, start + began, body[began:end], record.request_id.hex())
        began = end


def _end_of(path: Path) -> int:
    """Where the next record will begin."""
    return max((end for end, _ in decode(path.read_bytes())), default=0)


def _quarantine(stage: Stage) -> Iterator[Path]:
    return stage.home.glob("node/gateway/spool/quarantine/*.bin")


def _segments(stage: Stage) -> list[Path]:
    return sorted(stage.home.glob("node/gateway/spool/*/*.spool"))


def _tear(path: Path, chance: random.Random) -> None:
    body = path.read_bytes()
    whole = _end_of(path)
    half = bytes(body[: chance.randrange(9, 60)]) if whole else b""
    path.write_bytes(body[:whole] + half)


# --- The upstream ---------------------------------------------------------------------------------------------------


def _misbehaving(stage: Stage, scale: Scale, manner: str, seconds: float = 0.7) -> Verdict:
    load = stage.load(rate=scale.rate)
    with stage.excused(0.5):
        stage.upstream.manner = manner
        time.sleep(seconds)
        stage.upstream.manner = "answer"
    time.sleep(1)
    return stage.verdict(load)


@fault
def the_upstream_refuses(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """Nobody listens at its port."""
    load = stage.load(rate=scale.rate)
    with stage.excused(0.5), stage.upstream.gone():
        time.sleep(1.5)
    time.sleep(1)
    return stage.verdict(load)


@fault
def the_upstream_does_not_accept(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """Its queue is full, so that connecting hangs."""
    load = stage.load(rate=scale.rate)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, contextlib.ExitStack() as callers:
        for _ in range(4):
            caller = callers.enter_context(socket.socket())
            caller.settimeout(0)
            caller.connect_ex(deaf.getsockname())
        with stage.excused():
            stage.publish(port=deaf.getsockname()[1], connect_timeout_ms=500)
            stage.wait_for_answers(504)
            stage.publish()
            stage.wait_for_answers(200)
        time.sleep(1)
    return stage.verdict(load)


@fault
def the_upstream_hangs(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    return _hanging(stage, scale, "hang")


@fault
def the_upstream_hangs_in_the_head(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    return _hanging(stage, scale, "hang in the head")


@fault
def the_upstream_hangs_in_the_body(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    return _hanging(stage, scale, "hang in the body")


def _hanging(stage: Stage, scale: Scale, manner: str) -> Verdict:
    stage.wait_applied(stage.publish(read_timeout_ms=1_000))
    return _misbehaving(stage, scale, manner, 1.3)  # longer than the timeout


@fault
def the_upstream_closes_its_half(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """In the middle of an answer, and goes on to listen."""
    return _misbehaving(stage, scale, "half-close")


@fault
def the_upstream_answers_early(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """Without having read the body, and then closes: the caller has the answer all the same."""
    load = stage.load(rate=scale.rate)
    stage.upstream.manner = "early"
    assert {stage.upload(500_000).status for _ in range(5)} == {200}
    stage.upstream.manner = "answer"
    assert stage.upload(500_000).status == 200
    return stage.verdict(load)


@fault
def the_upstream_resets(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    return _misbehaving(stage, scale, "reset")


@fault
def the_upstream_closes_without_an_answer(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    return _misbehaving(stage, scale, "close")


@fault
def the_upstream_stops_in_the_middle(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    return _misbehaving(stage, scale, "half")


@fault
def the_upstream_floods_fields(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    return _misbehaving(stage, scale, "flood")


@fault
def the_upstream_lies_about_length(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    return _misbehaving(stage, scale, "lie")


@fault
def the_upstream_talks_nonsense(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    return _misbehaving(stage, scale, "nonsense")


# --- Callers --------------------------------------------------------------------------------------------------------


@fault
def callers_leave_at_each_stage(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """In the head, in the body, while the upstream works, in the answer; others notice nothing."""
    load = stage.load(rate=scale.rate)
    stage.upstream.manner = "slow"
    until = time.monotonic() + 3
    while time.monotonic() < until:
        leave_early(stage, chance)
    stage.upstream.manner = "answer"
    return stage.verdict(load)


def leave_early(stage: Stage, chance: random.Random) -> None:
    whole = request_head(stage.key, "GET /echo/things/1")
    sent = chance.choice(
        [
            whole[: chance.choice([1, 20, 60])],
            whole,
            request_head(stage.key, "GET /echo/things/long"),
            request_head(stage.key, "POST /echo/things/1", "Content-Length: 9000") + b"x" * chance.choice([0, 4000]),
        ]
    )
    stage.leavers += 1
    with socket.create_connection(("127.0.0.1", stage.node.port), 60) as caller:
        caller.sendall(sent)
        if sent.startswith(b"GET /echo/things/long"):
            caller.recv(5000)  # of a million
        time.sleep(chance.choice([0, 0.005, 0.03]))
        if chance.random() < 0.5:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@fault
def idle_and_slow_connections(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """Thousands that made a call and now say nothing, thousands that say a byte now and then, and callers who work."""
    idle = stage.crowd(scale.idle, hosts=8)
    assert idle.call_and_stay() == {200: scale.idle}
    load = stage.load(rate=scale.rate)
    slow = stage.crowd(scale.idle * 2 // 5, hosts=8)
    stage.leavers += len(slow)  # each has begun a call
    for number in range(5):
        slow.say(request_head(stage.key, "GET /echo/things/1")[number : number + 1])
        time.sleep(0.5)
    wait_until(lambda: stage.node.connections() >= scale.idle + len(slow), 30, "all of them are there at once")
    verdict = stage.verdict(load)
    idle.leave()
    slow.leave()
    return verdict


@fault
def a_key_is_revoked_while_64_use_it(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    load = stage.load(connections=64, rate=max(scale.rate, 400))
    time.sleep(chance.uniform(0.2, 0.8))
    stage.revoke()
    time.sleep(2.5)
    return stage.verdict(load)


@fault
def a_key_is_revoked_under_all_that_waits(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """64 callers use it, most of them in line for one of few connections, and some are in the middle of an upload.

    A second later the upstream hears nothing more of any of them: no call whose turn comes, no piece of a body.
    """
    stage.publish(max_connections=4)
    uploads = [stage.begin_upload(8_000_000, pause=0.02) for _ in range(4)]  # of ten seconds, if they are let
    wait_until(lambda: len(stage.upstream.reached) == len(uploads), 30, "the upstream hears of the uploads")
    stage.upstream.manner, stage.upstream.takes = "slow", 0.3  # so that the line is longer than two seconds
    load = stage.load(connections=64, rate=400)
    time.sleep(chance.uniform(0, 0.5))
    stage.revoke()
    answers = {upload.result(60).status for upload in uploads}
    wait_until(lambda: load.calls[-1].status == 401, 30, "the revocation is heard")
    time.sleep(2.5)
    verdict = stage.verdict(load)
    assert not verdict.is_clean or answers == {401}, answers
    return verdict
