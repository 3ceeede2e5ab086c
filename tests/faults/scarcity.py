"""Faults of the host rather than of a program: too few descriptors, too little memory or disk, a wrong clock."""

from __future__ import annotations

import os
import random
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import psutil
import psycopg

from apimgr.contracts.outcomes import BY_CODE
from apimgr.contracts.snapshot import LimitDocument
from tests.faults.checker import Verdict
from tests.faults.faults import Scale, fault
from tests.faults.host import disk, memory_group
from tests.faults.load import request_head
from tests.faults.stage import Stage, stopping, wait_until

MIB: Final = 1024 * 1024

# --- File descriptors -----------------------------------------------------------------------------------------------


@fault
def descriptors_are_few(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """Many more callers than there are descriptors: they wait in the queue, each has its turn, and nothing spins."""
    stage.restart("ulimit -n 96")
    load = stage.load(connections=8, rate=scale.rate)
    workers, (agent,) = stage.node.children("worker"), stage.node.children("agent")
    crowd = stage.crowd(300)
    asked = stage.crowd(64, stage.node.admin_port)
    time.sleep(0.5)
    used = sum(_cpu_seconds(worker) for worker in workers)
    time.sleep(2)
    assert sum(_cpu_seconds(worker) for worker in workers) - used < 1.5, "two workers that spin use four seconds"
    asked.leave()
    assert crowd.call_and_leave() == {200: 300}
    assert stage.node.children("worker") == workers
    assert stage.node.children("agent") == [agent]
    return stage.verdict(load)


@fault
def descriptors_run_out(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """From one moment to the next there is not one more: kept connections are served, no record is lost."""
    load = stage.load(connections=8, rate=scale.rate)
    stage.upstream.manner, stage.upstream.takes = "slow", 0.5
    wait_until(
        lambda: stage.upstream.connections >= 8, 60, "each caller has a connection to the upstream, which is kept"
    )
    stage.upstream.manner = "answer"
    stage.wait_for_answers(200)
    workers = stage.node.children("worker")
    limits = [worker.rlimit(psutil.RLIMIT_NOFILE) for worker in workers]
    for worker, (_, hard) in zip(workers, limits, strict=True):
        worker.rlimit(psutil.RLIMIT_NOFILE, (8, hard))  # less than it has
    before = len(load.calls)
    crowd = stage.crowd(50)
    used = sum(_cpu_seconds(worker) for worker in workers)
    time.sleep(2)
    assert sum(_cpu_seconds(worker) for worker in workers) - used < 1.5, "two workers that spin use four seconds"
    with stage.excused():  # the upstream's connections go, and there can be no others
        stage.upstream.drop()
        stage.wait_for_answers(503)
        for worker, limit in zip(workers, limits, strict=True):
            worker.rlimit(psutil.RLIMIT_NOFILE, limit)
        stage.wait_for_answers(200)
    statuses = {call.status for call in load.calls[before:]}
    assert statuses == {200, 503}, statuses
    assert crowd.call_and_leave() == {200: 50}
    return stage.verdict(load)


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


# --- Memory ---------------------------------------------------------------------------------------------------------


@fault
def memory_runs_out(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """The whole node has so much memory and no more.

    What callers do not take is not kept for them; and when somebody else takes all there is, so that the kernel kills
    one of ours, that one is started again.
    """
    with memory_group() as group, stopping(stage.node):
        stage.restart(group.entry)
        group.limit(160 * MIB)
        load = stage.load(rate=scale.rate)
        with ExitStack() as callers:
            for _ in range(20):  # ten megabytes each, of which they read none
                caller = callers.enter_context(socket.create_connection(("127.0.0.1", stage.node.port)))
                caller.sendall(request_head(stage.key, "GET /echo/things/huge"))
                stage.leavers += 1
            time.sleep(2)
        assert not group.kills, "what waits for callers is bounded"
        for _ in range(max(2, scale.kills // 10)):
            victim = chance.choice(stage.node.children(chance.choice(["worker", "worker", "agent"])))
            with stage.excused_until_noticed(), group.hog(victim):
                wait_until(lambda victim=victim: not victim.is_running(), 60, "the kernel kills it")  # type: ignore[misc]
            assert group.kills
            stage.node.wait_ready()
            time.sleep(chance.uniform(1, 2))
        return stage.verdict(load)


# --- Disks ----------------------------------------------------------------------------------------------------------


@fault
def the_spool_is_full(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """A disk without room for one more segment: calls are refused before the upstream hears of them, until there is."""
    stage.node.stop()
    with disk(stage.node.home / "gateway" / "spool", "64m") as small, stopping(stage.node):
        stage.restart()
        load = stage.load(rate=scale.rate)
        stage.database.stop()  # so that no segment is shipped, and its room given back
        small.fill()
        with stage.excused():
            stage.node.kill("worker")  # their successors need segments
            _see_that_nothing_is_passed_on(stage)
            small.free()
            stage.wait_for_answers(200)
        stage.database.start()
        time.sleep(1)
        return stage.verdict(load)


@fault
def the_spool_can_only_be_read(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """As a disk is remounted after errors. What lies there is shipped, and once it can be written calls go on."""
    load = stage.load(rate=scale.rate)
    with ExitStack() as stack:
        with stage.excused():
            stage.node.stop()
            small = stack.enter_context(disk(stage.node.home / "gateway" / "spool", "64m"))
            stack.enter_context(stopping(stage.node))
            small.remount("ro")
            stage.node.start()
            _see_that_nothing_is_passed_on(stage)
            small.remount("rw")
            stage.wait_for_answers(200)
        time.sleep(1)
        return stage.verdict(load)


def _see_that_nothing_is_passed_on(stage: Stage) -> None:
    stage.wait_for_answers(BY_CODE["usage_unavailable"].status)
    reached = len(stage.upstream.reached)
    time.sleep(1)
    assert len(stage.upstream.reached) == reached, "nothing that could not be recorded is passed on"


@fault
def the_database_is_out_of_disk(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """Usage cannot be stored (SQLSTATE 53100): it waits in the spool, none of it is taken for poison, calls go on."""
    database = stage.database
    with psycopg.connect(database.url) as connection:
        tables = [row[0] for row in connection.execute(_USAGE_TABLES)]
    # Not below the stage: pytest closes its folders to others whenever a session starts.
    with TemporaryDirectory(prefix="apimgr-faults-") as folder, disk(Path(folder), "4m") as small:
        database.make_reachable(small.path)
        database.execute(f"CREATE TABLESPACE small LOCATION '{small.path}'")
        database.execute(*(f"ALTER TABLE {table} SET TABLESPACE small" for table in tables))
        try:
            load = stage.load(rate=scale.rate)
            small.fill()
            stored = len(database.rows())
            wait_until(lambda: "No space left on device" in stage.node.log.read_text(), 60, "some cannot be stored")
            time.sleep(min(scale.outage_seconds, 30))
            assert stage.node.metric("spooled_total") > stage.node.metric("acknowledged_total"), "some of it waits"
            assert len(database.rows()) < len(load.calls) + stored
            small.free()
            verdict = stage.verdict(load)
        finally:
            with suppress(FileNotFoundError):
                small.free()
            database.execute(*(f"ALTER TABLE {table} SET TABLESPACE pg_default" for table in tables))
            database.execute("DROP TABLESPACE small")
    assert not stage.node.metric("quarantined_total"), "nothing is wrong with the records"
    return verdict


_USAGE_TABLES: Final = """
    SELECT oid::regclass::text FROM pg_class
    WHERE relkind = 'r' AND (relname = 'usage_batch' OR relname LIKE 'usage_event%')
"""

# --- Clocks ---------------------------------------------------------------------------------------------------------


@fault
def the_clock_steps(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """Back and forth by hours and days: calls pass as before, and each has its row.

    When it steps back nobody can tell how full a rate's bucket is: it counts as empty, and fills as ever. Here that
    takes less than a millisecond for each call.
    """
    clock = stage.home / "clock"
    clock.write_bytes(bytes(8))
    hook = str(Path(__file__).with_name("clock"))
    stage.restart(FAULTS_CLOCK=str(clock), PYTHONPATH=os.pathsep.join([hook, os.environ.get("PYTHONPATH", "")]))
    stage.publish(limits=(LimitDocument(1, "rate", 100_000, "minute"), LimitDocument(2, "quota", 1_000_000, "day")))
    load = stage.load(rate=scale.rate)
    for step in (3_600, -7_200, 86_400, -86_400, 1, 0):
        with stage.excused_until_noticed(), clock.open("r+b") as file:
            file.write(step.to_bytes(8, "little", signed=True))
        time.sleep(chance.uniform(0.6, 1))
    assert {call.status for call in load.calls} <= {200, 429}
    return stage.verdict(load)
