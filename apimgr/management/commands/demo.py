"""``make demo``: the whole platform on this host, with data in it, in the foreground."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import time
from argparse import ArgumentParser
from typing import Any

import httpx
from django.core.management.base import BaseCommand, CommandError

from apimgr import env, postgres
from apimgr.management.demo import stack
from apimgr.management.demo.processes import ProcessFailed, ProcessGroup
from apimgr.management.demo.stack import MANAGE, Ports, Stack
from apimgr.management.demo.usage import DAYS

STEPS = (("migrate", "--verbosity", "0"), ("collectstatic", "--no-input", "--verbosity", "0"))

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Command(BaseCommand):
    help = "Start web, gateway, worker, demo upstream and mailbox with demo data; Ctrl-C stops them."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=int, default=DAYS, help="how many days of past usage to make")
        parser.add_argument("--reset", action="store_true", help="delete the demo's data instead, to start over")

    def handle(self, *args: Any, reset: bool = False, days: int = DAYS, **options: Any) -> None:
        if reset:
            self.reset()
            return
        ports = Ports.from_environment()
        problems = [*ports.busy(), *filter(None, [stack.ensure_upstream()])]
        if problems:
            raise CommandError("\n".join(problems))
        logging.getLogger("httpx").setLevel(logging.WARNING)  # Knocking until they answer is not news.
        for number in STOPS:  # SIGINT too: a shell's background job inherits it ignored
            signal.signal(number, interrupt)
        group = ProcessGroup({})
        try:
            self.run(group, ports, days)
        except ProcessFailed as failure:
            raise CommandError(str(failure)) from None
        except KeyboardInterrupt:
            group.say("Stopping")
        finally:
            for number in STOPS:
                signal.signal(number, signal.SIG_IGN)
            group.stop()

    def run(self, group: ProcessGroup, ports: Ports, days: int) -> None:
        platform = Stack(ports, env.text("DATABASE_URL") or stack.embedded_postgres(group))
        group.environment.update(platform.environment())
        for step in (*STEPS, ("seed_demo", "--days", str(days))):
            group.say(f"{step[0]} …")
            group.run(step[0][:9], *MANAGE, *step)
        platform.start(group)
        demo = json.loads((env.var_dir() / "demo.json").read_text())
        group.wait_until("The first call through the gateway", lambda: first_call(demo))
        for line in summary(demo):
            group.say(line)
        while True:
            group.check()
            time.sleep(0.5)

    def reset(self) -> None:
        """Only what the demo made: its database when that is our own, its secrets, its state."""
        server = postgres.embedded()
        if server.process():
            self.stderr.write("Stopping the embedded PostgreSQL")
        server.remove()
        for name in ("secrets", "gateway", "celery", "mail", "static"):
            shutil.rmtree(env.var_dir() / name, ignore_errors=True)
        (env.var_dir() / "demo.json").unlink(missing_ok=True)
        self.stdout.write("The demo's data is gone; `make demo` makes it anew.")


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def first_call(demo: dict[str, Any]) -> bool:
    """One real call, as the newcomer will make it: the key may take a moment to reach the gateway."""
    try:
        reply = httpx.get(demo["call_url"], headers={"X-Api-Key": demo["api_key"]}, timeout=5, trust_env=False)
    except httpx.HTTPError:
        return False
    # Whoever restarts the demo after using the key up meets its limit: the gateway answers all the same.
    return reply.status_code in {200, 429}


def summary(demo: dict[str, Any]) -> list[str]:
    people = [(role, account["email"], account["password"]) for role, account in demo["accounts"].items()]
    return [
        "",
        "apimgr is running. Ctrl-C stops it; `make demo-reset` starts over.",
        "",
        f"  Portal       {demo['web_url']}/",
        f"  Console      {demo['web_url']}/console/",
        f"  Insights     {demo['web_url']}/insights/",
        f"  Mailbox      {demo['web_url']}/mailbox/",
        f"  Gateway      {demo['gateway_url']}/",
        "",
        *(f"  {role:<12} {email:<28} {password}" for role, email, password in people),
        "",
        "  Your first call:",
        f"  curl -H 'X-Api-Key: {demo['api_key']}' {demo['call_url']}",
        "",
        f"  All of this is in {env.var_dir() / 'demo.json'}",
        "",
    ]
