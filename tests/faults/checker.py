"""Three ledgers, one truth. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from apimgr.contracts.outcomes import BY_CODE

_CUT_OFF = BY_CODE["gateway_aborted"].number


@dataclass(frozen=True, slots=True)
class Call:
    """What a caller saw. ``number`` is 0 where it is of no steady caller.

    ``status`` 0 is a connection that broke before a whole answer; times are monotonic seconds.
    """

    number: int
    began_at: float
    ended_at: float
    status: int
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A stored record. ``path`` is only kept of calls that were refused or matched nothing."""

    request_id: str
    outcome: int
    path: str = ""


@dataclass(slots=True)
class Verdict:
    """Request ids, or calls, that break a promise; every list is empty when all is well."""

    calls: int = 0
    rows: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    failed: list[Call] = field(default_factory=list)
    too_late: list[Call] = field(default_factory=list)
    heard_late: list[str] = field(default_factory=list)
    p99_ms: float = 0.0  # told, not held against anybody: of steady callers, outside what is excused
    cut_off: int = 0  # rows of calls that were under way when their worker was killed

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.invented or self.failed or self.too_late or self.heard_late)

    def __str__(self) -> str:
        parts = ("lost", "doubled", "invented", "failed", "too_late", "heard_late")
        told = ", ".join(f"{len(getattr(self, part))} {part.replace('_', ' ')}" for part in parts)
        examples = [str(getattr(self, part)[0]) for part in parts if getattr(self, part)]
        told += f", {self.cut_off} cut off by a kill"
        return f"{self.calls} calls, {self.rows} rows: {told}" + "".join(f"\n  e.g. {each}" for each in examples)


Span = tuple[float, float]


def check(
    calls: Iterable[Call],
    reached: Mapping[str, float],
    rows: Iterable[Row],
    *,
    excused: Iterable[Span] = (),
    refused_after: float | None = None,
    leavers: int = 0,
    set_aside: Collection[str] = (),
) -> Verdict:
    """Compare the ledgers.

    ``reached`` are the request ids the upstream saw, and when it last heard of each: its head, or a piece of its body.
    ``excused`` are the spans in which calls may fail: those that overlap one. ``refused_after`` is when the key was
    revoked: a second later nothing may pass, neither a call that begins then nor what is left of an earlier one.
    ``leavers`` is how many calls were made whose caller left before it could know an id: so many rows are theirs.
    ``set_aside`` are the ids of calls whose records the fault made unreadable: these have no row, and no others.
    """
    calls, rows, spans = list(calls), list(rows), list(excused)
    counted = Counter(row.request_id for row in rows)
    answered = {call.request_id for call in calls if call.request_id}
    known = answered | set(reached)
    sent = {call.number for call in calls}
    verdict = Verdict(calls=len(calls), rows=sum(counted.values()))
    verdict.cut_off = sum(row.outcome == _CUT_OFF for row in rows)
    must = {call.request_id for call in calls if 200 <= call.status < 300} | set(reached)
    verdict.lost = sorted(must - counted.keys() - set(set_aside))
    verdict.doubled = sorted(request_id for request_id, count in counted.items() if count > 1)
    unknown = [row for row in rows if row.request_id not in known and _number(row.path) not in sent]
    # A worker killed between noting a call and sending it on: nobody ever heard the id, but a caller lost a connection.
    cut_off = [row for row in unknown if row.outcome == _CUT_OFF][: sum(call.status == 0 for call in calls)]
    verdict.invented = sorted(row.request_id for row in unknown if row not in cut_off)[leavers:]
    verdict.invented += sorted(counted.keys() & set(set_aside))
    verdict.p99_ms = 1000 * _p99(c for c in calls if c.number and not any(_overlap(c, span) for span in spans))
    if refused_after is not None:
        verdict.heard_late = sorted(each for each, heard_at in reached.items() if heard_at > refused_after + 1)
    for call in calls:
        late = refused_after is not None and call.began_at > refused_after + 1
        if late and 200 <= call.status < 300:
            verdict.too_late.append(call)
        if not _is_fine(call, refused_after) and not any(_overlap(call, span) for span in spans):
            verdict.failed.append(call)
    return verdict


def _p99(calls: Iterable[Call]) -> float:
    times = sorted(call.ended_at - call.began_at for call in calls if 200 <= call.status < 300)
    return times[len(times) * 99 // 100] if times else 0.0


def _is_fine(call: Call, refused_after: float | None) -> bool:
    if 200 <= call.status < 300:
        return True
    return call.status == 401 and refused_after is not None and call.ended_at > refused_after


def _overlap(call: Call, span: Span) -> bool:
    return call.began_at <= span[1] and call.ended_at >= span[0]


def _number(path: str) -> int:
    """The number that a call carries at the end of its path; -1 if none."""
    last = path.rpartition("/")[2]
    return int(last) if last.isdecimal() else -1
