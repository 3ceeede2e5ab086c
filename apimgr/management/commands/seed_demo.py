"""The demo's world, made once; ``var/demo.json`` says how to get in."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import transaction

from apimgr import env
from apimgr.management.demo import history, world
from apimgr.management.demo.stack import Ports, Stack
from apimgr.management.demo.usage import DAYS
from apimgr.postgres import write_private


class Command(BaseCommand):
    help = "Make the demo's organisation, APIs, developers, keys and past usage, and write var/demo.json."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=int, default=DAYS, help="how many days of past usage to make")

    def handle(self, *args: Any, days: int = DAYS, **options: Any) -> None:
        stack = Stack(Ports.from_environment())
        told = self.told_before()
        if not world.exists():
            told = self.make(stack.upstream_url, days)
        elif not world.still_good(told):
            told = world.renew()
            self.stdout.write("New passwords and keys for the demo data that was there")
        world.move_upstream(stack.upstream_url)
        self.tell(told, stack)

    def make(self, upstream_url: str, days: int) -> dict[str, Any]:
        started = time.monotonic()
        # All or nothing: a seed that was interrupted starts from nothing again.
        with transaction.atomic():
            made, told = world.build(upstream_url)
            count = history.write(made, days)
        self.stdout.write(f"Demo data made: {count:,} calls, in {time.monotonic() - started:.0f} s")
        return told

    def told_before(self) -> dict[str, Any]:
        try:
            told: dict[str, Any] = json.loads((env.var_dir() / "demo.json").read_text())
        except (OSError, ValueError):
            return {}
        return told

    def tell(self, told: dict[str, Any], stack: Stack) -> None:
        told |= {
            "web_url": settings.WEB_URL,
            "gateway_url": settings.GATEWAY_URL,
            "gateway_admin_url": stack.admin_url,
            "upstream_url": stack.upstream_url,
            "call_url": f"{settings.GATEWAY_URL}/httpbin/v1/get",
        }
        write_private(env.var_dir() / "demo.json", json.dumps(told, indent=2) + "\n")
