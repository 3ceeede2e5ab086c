"""Who calls: what is believed of a trusted proxy, and that nobody else is believed anything (H8)."""

from __future__ import annotations

import tracemalloc
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from proxy.dataplane.config import ImproperConfiguration, from_environment
from proxy.dataplane.policies.forwarding import MAX_HOPS, caller_behind, packed
from tests.proxy.dataplane.support import Running, read_reply, request
from tests.proxy.dataplane.test_gateway import play
from tests.proxy.dataplane.test_tunnel import WebSocketUpstream, recorded, shake_hands, world

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))
PEER = ip_address("10.0.0.1")


@pytest.mark.requirement("H8.2")
@pytest.mark.parametrize(
    ("told", "caller", "hops"),
    [
        ([], "10.0.0.1", "10.0.0.1"),
        (["198.51.100.7"], "198.51.100.7", "198.51.100.7, 10.0.0.1"),
        # What the caller itself claims stands left of what the proxy saw.
        (["6.6.6.6, 198.51.100.7"], "198.51.100.7", "198.51.100.7, 10.0.0.1"),
        (["6.6.6.6", "198.51.100.7"], "198.51.100.7", "198.51.100.7, 10.0.0.1"),
        (["10.6.6.6, 198.51.100.7"], "198.51.100.7", "198.51.100.7, 10.0.0.1"),
        (["198.51.100.7, 10.0.0.9"], "198.51.100.7", "198.51.100.7, 10.0.0.9, 10.0.0.1"),
        (["6.6.6.6, 198.51.100.7,10.0.0.9 ,, 10.0.0.8"], "198.51.100.7", "198.51.100.7, 10.0.0.9, 10.0.0.8, 10.0.0.1"),
        (["10.0.0.3, 10.0.0.2"], "10.0.0.3", "10.0.0.3, 10.0.0.2, 10.0.0.1"),
        (["198.51.100.7:4711"], "198.51.100.7", "198.51.100.7, 10.0.0.1"),
        (["2001:db8:0:0::5"], "2001:db8::5", "2001:db8::5, 10.0.0.1"),
        (["[2a00::7]:4711, 2001:db8::5"], "2a00::7", "2a00::7, 2001:db8::5, 10.0.0.1"),
        (["::ffff:198.51.100.7"], "198.51.100.7", "198.51.100.7, 10.0.0.1"),
        # Nonsense ends it: what stands left of it may be anybody's.
        (["198.51.100.7, unknown"], "10.0.0.1", "10.0.0.1"),
        (["198.51.100.7, x, 10.0.0.9"], "10.0.0.9", "10.0.0.9, 10.0.0.1"),
        (["_hidden"], "10.0.0.1", "10.0.0.1"),
        (["0x7f.1"], "10.0.0.1", "10.0.0.1"),
        (["198.51.100.7\xff"], "10.0.0.1", "10.0.0.1"),
    ],
)  # fmt: skip
def test_the_caller_is_the_right_most_hop_that_is_no_proxy(told: list[str], caller: str, hops: str) -> None:
    fields = tuple((b"X-Forwarded-For", value.encode("latin-1")) for value in told)
    found = caller_behind(PEER, fields, "h", TRUSTED)
    assert found.address == packed(ip_address(caller))
    assert found.lines == f"X-Forwarded-For: {hops}\r\nX-Forwarded-Proto: http\r\n".encode()


def test_a_long_list_is_not_followed_for_ever() -> None:
    fields = ((b"x-forwarded-for", b", ".join([b"10.0.0.2"] * 1000)),)
    assert caller_behind(PEER, fields, "h", TRUSTED).lines.count(b"10.0.0") == MAX_HOPS + 1


@pytest.mark.requirement("H8.2")
@pytest.mark.parametrize(
    ("name", "value", "scheme", "host"),
    [
        ("x-forwarded-proto", "https", "https", "h"),
        ("X-Forwarded-Proto", "HTTPS", "https", "h"),
        ("X-Forwarded-Proto", "http, https", "https", "h"),
        ("X-Forwarded-Proto", "wss", "http", "h"),
        ("X-Forwarded-Proto", "https\tX: y", "http", "h"),
        ("X-Forwarded-Host", "API.example.com:443", "http", "api.example.com:443"),
        ("X-Forwarded-Host", "evil/path", "http", "h"),
        ("X-Forwarded-Host", "", "http", "h"),
    ],
)
def test_scheme_and_host(name: str, value: str, scheme: str, host: str) -> None:
    found = caller_behind(PEER, ((name.encode(), value.encode()),), "h", TRUSTED)
    assert found.lines.endswith(f"X-Forwarded-Proto: {scheme}\r\n".encode())
    assert found.host == host


LINES = ("X-Forwarded-For: 6.6.6.6, 198.51.100.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: api.example.com",
         "X-Forwarded-Port: forged", "X_Forwarded_For: 6.6.6.6", "Forwarded: for=6.6.6.6", "X-Real-IP: 6.6.6.6",
         "X-Consumer-Id: forged")  # fmt: skip


@pytest.mark.requirement("H8.1", "H8.2")
@pytest.mark.processes
def test_a_trusted_proxy_is_believed_and_nobody_else(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        await gateway.get("/orders/items/1", *LINES)
        gateway.worker.trusted_proxies = (ip_network("127.0.0.1"),)
        await gateway.get("/orders/items/1", *LINES)
        before, after = gateway.upstream.received
        assert b"For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: gateway.test\r\n" in before
        assert (
            b"For: 198.51.100.7, 127.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: api.example.com\r\n"
            in after
        )
        assert b"forged" not in before + after
        assert b"6.6.6.6" not in before + after
        addresses = [record.client for record in gateway.recorder.records]
        assert addresses == [packed(ip_address("127.0.0.1")), packed(ip_address("198.51.100.7"))]

    play(tmp_path, scenario)


@pytest.mark.requirement("H8.2", "H13.5")
@pytest.mark.processes
def test_each_call_over_a_proxy_s_connection_has_its_own_caller(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.worker.trusted_proxies = (ip_network("127.0.0.0/8"),)
        gateway.worker.max_per_address = 1
        reader, writer = await gateway.connect()
        key = f"X-Api-Key: {gateway.world.key}"
        for caller in ("198.51.100.7", "198.51.100.8", "198.51.100.7"):
            writer.write(request("GET", "/orders/items/1", key, f"X-Forwarded-For: {caller}"))
            assert (await read_reply(reader)).status == 200
        writer.write(request("GET", "/orders/nothing", key, "X-Forwarded-For: 198.51.100.9"))
        assert (await read_reply(reader)).status == 404, "a refusal has its caller, too"
        found = [record.client[-1] for record in gateway.recorder.records]
        assert found == [7, 8, 7, 9]
        assert set(gateway.worker.addresses) == {packed(ip_address("127.0.0.1"))}, "connections are the peer's"

    play(tmp_path, scenario)


@pytest.mark.processes
def test_a_tunnel_has_its_caller(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.worker.trusted_proxies = (ip_network("127.0.0.1"),)
        upstream = WebSocketUpstream(gateway)
        head, caller = await shake_hands(gateway, "X-Forwarded-For: 198.51.100.7")
        assert head.startswith(b"HTTP/1.1 101")
        assert b"\r\nX-Forwarded-For: 198.51.100.7, 127.0.0.1\r\n" in upstream.heads[0]
        caller[1].close()
        upstream.end()
        await recorded(gateway)
        assert gateway.recorder.records[0].client == packed(ip_address("198.51.100.7"))

    play(tmp_path, scenario, world())


ENVIRONMENT = {"APIMGR_KEY_PEPPER": "p" * 32, "APIMGR_NODE_NAME": "n"}


def test_the_setting() -> None:
    config = from_environment({**ENVIRONMENT, "APIMGR_GATEWAY_TRUSTED_PROXIES": "10.0.0.0/8, 2001:db8::/32"})
    assert config.trusted_proxies == TRUSTED
    assert from_environment(ENVIRONMENT).trusted_proxies == ()
    for wrong in ("10.0.0.1/8", "proxy.example", "*"):
        with pytest.raises(ImproperConfiguration, match="APIMGR_GATEWAY_TRUSTED_PROXIES"):
            from_environment({**ENVIRONMENT, "APIMGR_GATEWAY_TRUSTED_PROXIES": wrong})


def test_long_lists_of_hops_take_no_memory() -> None:
    """What stands left in them is what strangers claim."""
    tracemalloc.start()
    try:
        for number in range(1_000):
            caller_behind(PEER, ((b"X-Forwarded-For", b"%d, " % number * 1_000 + b"198.51.100.7"),), "h", TRUSTED)
        assert tracemalloc.get_traced_memory()[0] < 1024**2
    finally:
        tracemalloc.stop()
