"""One worker of the gateway as the supervisor would start it, for the benchmark: ``python -m tests.bench.serve``.

Takes its settings from the environment, as the gateway does, and prints its port once it listens.
"""

from __future__ import annotations

import socket

from proxy.dataplane import config, worker


def main() -> None:
    settings = config.from_environment()
    listening = socket.create_server((settings.listen.host, settings.listen.port), backlog=1024)
    print(listening.getsockname()[1], flush=True)
    worker.run(settings, 0, [listening])


if __name__ == "__main__":
    main()
