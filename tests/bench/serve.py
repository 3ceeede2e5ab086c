"""One worker of the gateway as the supervisor would start it, for the benchmark: ``python -m tests.bench.serve``.

Takes its settings from the environment, as the gateway does, and prints its port once it listens. ``BENCH_RECORDING=0``
has it write no usage records, to see what they cost.
"""

from __future__ import annotations

import os
import socket

import tests.bench.compiled  # isort: skip  (first: it says what is imported)  # noqa: F401

from proxy.dataplane import config, worker


class _Nowhere:
    """A recorder that keeps nothing."""

    def has_room(self, frames: int) -> bool:
        return True

    calls = None

    def append(self, frame: bytes, slot: int = 0) -> None:
        pass


def main() -> None:
    settings = config.from_environment()
    listening = socket.create_server((settings.listen.host, settings.listen.port), backlog=1024)
    print(listening.getsockname()[1], flush=True)
    worker.run(settings, 0, [listening], recorder=_Nowhere() if os.environ.get("BENCH_RECORDING") == "0" else None)


if __name__ == "__main__":
    main()
