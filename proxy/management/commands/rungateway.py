from __future__ import annotations

import os
import socket
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from apimgr import env


class Command(BaseCommand):
    help = "Runs a gateway node: gives the data plane its settings and becomes it. Stop it with SIGTERM or Ctrl-C."
    requires_system_checks = []

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--listen", help="host:port of the public listener")
        parser.add_argument("--admin-listen", help="host:port of health, readiness and metrics")
        parser.add_argument("--workers", help="how many worker processes")

    def handle(self, *args: Any, **options: Any) -> None:
        given = {
            "APIMGR_GATEWAY_LISTEN": options["listen"],
            "APIMGR_GATEWAY_ADMIN_LISTEN": options["admin_listen"],
            "APIMGR_GATEWAY_WORKERS": options["workers"],
        }
        environment = {**os.environ, **node_environment(), **{name: value for name, value in given.items() if value}}
        # Python's own start, not a fork of this process: a worker shall hold neither Django nor a database driver.
        os.execve(sys.executable, [sys.executable, "-m", "proxy.dataplane"], environment)  # noqa: S606


def node_environment() -> dict[str, str]:
    """What the data plane is told of these settings; it reads its environment and nothing else."""
    return {
        "APIMGR_VAR": str(settings.VAR_DIR),
        "APIMGR_KEY_PEPPER": settings.KEY_PEPPER.decode(),
        "APIMGR_GATEWAY_ADMIN_TOKEN": env.secret("APIMGR_GATEWAY_ADMIN_TOKEN"),
        "APIMGR_NODE_NAME": env.text("APIMGR_NODE_NAME") or socket.gethostname(),
        "DATABASE_URL": env.database_url(),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(settings.BASE_DIR), os.environ.get("PYTHONPATH", "")])),
    }
