"""Several versions at one address, byte for byte: what is chosen, passed on, answered and recorded."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from apimgr.contracts.outcomes import BY_NUMBER
from apimgr.contracts.snapshot import ChoiceDocument, LimitDocument, OperationDocument, RouteDocument, Selection
from proxy.dataplane.policies.select import Fork
from tests.proxy.dataplane.support import Running, World, response
from tests.proxy.dataplane.test_gateway import play

pytestmark = pytest.mark.processes

CHOICES = (ChoiceDocument("2024-10-01", 20), ChoiceDocument("2025-04-01", 21), ChoiceDocument("2023-01-01", 22))


def share(gateway: Running, select_by: Selection, name: str, default: int = 20) -> None:
    """Version 20 beside 21, which has other operations and a limit, and 22, which is retired."""
    world = gateway.world
    newer = replace(
        world.version,
        id=21,
        name="v2",
        operations=(OperationDocument(8, "GET", "/things/{id}"),),
        limits=(LimitDocument(90, "quota", 2, "month"),),
    )
    world.replica.put(
        newer,
        replace(world.version, id=22, name="v0", state="retired"),
        RouteDocument("", "/orders", default, select_by, name, CHOICES),
    )


def by(select_by: Selection, name: str, scenario: Callable[[Running], Awaitable[None]], tmp_path: Path) -> None:
    async def whole(gateway: Running) -> None:
        share(gateway, select_by, name)
        await scenario(gateway)

    play(tmp_path, whole)


def test_a_header_chooses_and_is_passed_on_as_sent(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        assert (await gateway.get("/orders/items/1")).status == 200
        assert (await gateway.get("/orders/things/1", "x-aPi-version: 2025-04-01")).status == 200
        assert (await gateway.get("/orders/things/1", "X-Api-Version: 2024-10-01")).status == 404
        plain, chosen = gateway.upstream.received
        assert b"version" not in plain.lower()
        assert b"\r\nx-aPi-version: 2025-04-01\r\n" in chosen
        records = gateway.recorder.records
        assert [record.version_id for record in records] == [20, 21, 20]
        assert [record.operation_id for record in records] == [1, 8, 0]

    by("header", "X-Api-Version", scenario, tmp_path)


def test_other_fields_of_the_gateways_own_stay_behind(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        await gateway.get("/orders/items/1", "X-Api-Version: 2024-10-01", "X-Api-User: root", "X_Api_Version: v9")
        (sent,) = gateway.upstream.received
        assert b"root" not in sent
        assert b"v9" not in sent
        assert sent.count(b"2024-10-01") == 1

    by("header", "X-Api-Version", scenario, tmp_path)


def test_what_stays_behind_chooses_nothing(tmp_path: Path) -> None:
    """Nobody behind the gateway sees it, so there is nobody to read another version out of it."""

    async def scenario(gateway: Running) -> None:
        assert (await gateway.get("/orders/items/1", "X_Api_Version: 2025-04-01")).status == 200
        assert b"2025-04-01" not in gateway.upstream.received[0]
        assert [record.version_id for record in gateway.recorder.records] == [20]

    by("header", "X-Api-Version", scenario, tmp_path)


def test_where_it_does_not_choose_the_field_stays_behind(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        await gateway.get("/orders/items/1", "X-Api-Version: 2024-10-01")
        assert b"2024-10-01" not in gateway.upstream.received[0]

    play(tmp_path, scenario)


def test_a_plain_field_is_passed_on_once(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        await gateway.get("/orders/items/1", "Accept-Version: 2024-10-01")
        assert gateway.upstream.received[0].count(b"Accept-Version: 2024-10-01\r\n") == 1

    by("header", "Accept-Version", scenario, tmp_path)


def test_a_parameter_chooses_and_is_passed_on_as_sent(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        assert (await gateway.get("/orders/things/1?a=%2F&api%2Dversion=2025%2d04-01&b")).status == 200
        (sent,) = gateway.upstream.received
        assert sent.startswith(b"GET /base/things/1?a=%2F&api%2Dversion=2025%2d04-01&b HTTP/1.1\r\n")
        assert "vary" not in (await gateway.get("/orders/items/1")).headers

    by("query", "api-version", scenario, tmp_path)


@pytest.mark.parametrize(
    ("lines", "status", "code"),
    [
        (["X-Version: 2023-01-01"], 410, "version_retired"),
        (["X-Version: 2026-01-01"], 404, "version_unknown"),
        (["X-Version: 2024-10-01", "X-Version: 2025-04-01"], 404, "version_unknown"),
    ],
)
def test_refusals_reach_no_upstream(tmp_path: Path, lines: list[str], status: int, code: str) -> None:
    async def scenario(gateway: Running) -> None:
        reply = await gateway.get("/orders/items/1", *lines)
        problem = json.loads(reply.body)
        assert (reply.status, problem["code"]) == (status, code)
        assert reply.headers["vary"] == "X-Version"
        assert gateway.upstream.received == []
        if code == "version_unknown":
            assert problem["detail"].endswith("Send one of 2024-10-01, 2025-04-01 in the header field X-Version.")
            assert "2026" not in problem["detail"]

    by("header", "X-Version", scenario, tmp_path)


def test_a_version_that_was_retired_is_advised_no_longer(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        async def detail() -> str:
            return str(json.loads((await gateway.get("/orders/items/1?v=nothing")).body)["detail"])

        assert "Send one of 2024-10-01, 2025-04-01 in" in await detail()
        version = gateway.world.version
        gateway.world.replica.put(replace(version, id=21, name="v2", state="retired"))
        assert "Send one of 2024-10-01 in" in await detail()
        gateway.world.replica.put(replace(version, state="retired"))
        assert (await detail()).endswith("All that were here are retired.")

    by("query", "v", scenario, tmp_path)


def test_a_refusal_is_put_down_to_the_api_and_its_trail_says_what_was_looked_at(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        await gateway.get("/orders/items/1?v=nothing")
        await gateway.get("/orders/nowhere?v=2025-04-01")
        unknown, no_operation = gateway.recorder.records
        assert (BY_NUMBER[unknown.outcome].code, unknown.api_id, unknown.version_id) == ("version_unknown", 10, 0)
        assert json.loads(unknown.trail)[0] == {
            "step": "route",
            "base_path": "/orders",
            "chosen_by": "the query parameter v",
        }
        assert json.loads(no_operation.trail)[0] == {
            "step": "route",
            "base_path": "/orders",
            "version": "v2",
            "chosen_by": "the query parameter v",
        }

    by("query", "v", scenario, tmp_path)


def test_without_a_default_a_call_must_name_one(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        share(gateway, "header", "X-Version", default=0)
        reply = await gateway.get()
        assert (reply.status, json.loads(reply.body)["code"]) == (404, "version_unknown")
        assert (await gateway.get("/orders/items/1", "X-Version: 2024-10-01")).status == 200

    play(tmp_path, scenario)


def test_responses_vary_by_the_header(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.upstream.reply = response(b"{}", "200 OK", "Vary: Accept-Encoding", "vary: Origin")
        for lines in ([], ["X-Version: 2024-10-01"]):
            reply = await gateway.get("/orders/items/1", *lines)
            assert reply.headers["vary"] == "Accept-Encoding, Origin, X-Version"

    by("header", "X-Version", scenario, tmp_path)


def test_limits_are_those_of_the_version_that_was_chosen(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        for _ in range(3):
            assert (await gateway.get("/orders/items/1", "X-Version: 2024-10-01")).status == 200
        statuses = [(await gateway.get("/orders/things/1", "X-Version: 2025-04-01")).status for _ in range(3)]
        assert statuses == [200, 200, 429]

    by("header", "X-Version", scenario, tmp_path)


def test_a_key_opens_the_versions_of_its_product_alone(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.world.replica.put(replace(gateway.world.version, id=21, name="v2", product_ids=(31,)))
        assert (await gateway.get("/orders/items/1", "X-Version: 2024-10-01")).status == 200
        reply = await gateway.get("/orders/items/1", "X-Version: 2025-04-01")
        assert json.loads(reply.body)["code"] == "subscription_missing"

    by("header", "X-Version", scenario, tmp_path)


def test_a_default_that_moved_holds_for_the_next_call(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        await gateway.get()
        share(gateway, "header", "X-Version", default=21)
        assert (await gateway.get("/orders/things/1")).status == 200
        assert [record.version_id for record in gateway.recorder.records] == [20, 21]

    by("header", "X-Version", scenario, tmp_path)


def test_a_choice_whose_document_is_not_there_is_unknown(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        choices = (*CHOICES, ChoiceDocument("lost", 99))
        gateway.world.replica.put(RouteDocument("", "/orders", 99, "query", "v", choices))
        for path in ("/orders/items/1", "/orders/items/1?v=lost"):
            assert json.loads((await gateway.get(path)).body)["code"] == "version_unknown"
        assert isinstance(gateway.worker.runtime.version_at("", b"/orders")[0], Fork)  # type: ignore[index]

    by("query", "v", scenario, tmp_path)


def test_the_longer_base_path_still_wins(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        world: World = gateway.world
        world.replica.put(replace(world.version, id=23, name="inner"), RouteDocument("", "/orders/inner", 23))
        assert (await gateway.get("/orders/inner/items/1", "X-Version: nothing")).status == 200
        assert gateway.recorder.records[-1].version_id == 23

    by("header", "X-Version", scenario, tmp_path)
