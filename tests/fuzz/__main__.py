"""``python -m tests.fuzz [target ...] [--seconds N]``: fuzz each target for that long and say what was found.

With atheris (``requirements-fuzz.txt``) the inputs are guided by coverage; without it the corpus is mutated at random.
Where the gateway is compiled (``make compiled``) it has to make the same of each input as its sources do.

What breaks a target is kept in ``$APIMGR_VAR/fuzz/<target>``; make it a file of ``tests/fuzz/corpus/<target>``, which
the test suite replays.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import os
import random
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from proxy.dataplane import compiled
from tests.fuzz.outside import inputs

CORPUS = Path(__file__).parent / "corpus"
DICTIONARY = Path(__file__).parent / "tokens.dict"
HOME = Path(os.environ.get("APIMGR_VAR", "var")).absolute() / "fuzz"
NAMES = sorted(path.name for path in CORPUS.iterdir())
# libFuzzer's format: one string a line, with the escapes of C.
TOKENS = [b"\r", b"\n", b"\0", b" ", b"%", b";", b"0", b":", b","] + [
    ast.literal_eval(f"b{line}") for line in DICTIONARY.read_text().splitlines() if line.startswith('"')
]
MAX_INPUT = 4096


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="target", help=f"of {', '.join(NAMES)}; all if none is given")
    parser.add_argument("--seconds", type=int, default=60, help="per target (60)")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = set(options.targets) - set(NAMES)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    guided = importlib.util.find_spec("atheris") is not None
    if options.one:
        (name,) = options.targets
        return _guided(name, options.seconds) if guided else _at_random(name, options.seconds)
    if not guided:
        print("atheris is not installed (pip install -r requirements-fuzz.txt): mutating at random", flush=True)
    if not compiled.home().is_dir():
        print("The gateway is not compiled (make compiled): its sources alone are tried", flush=True)
    failed = [name for name in options.targets or NAMES if not _run(name, options.seconds)]
    print(f"Failed: {', '.join(failed)}" if failed else "Nothing was found.")
    return bool(failed)


def _run(name: str, seconds: int) -> bool:
    """A process of its own: atheris ends the one it runs in."""
    print(f"--- {name}: {seconds} s", flush=True)
    command = [sys.executable, "-m", "tests.fuzz", "--one", name, "--seconds", str(seconds)]
    return subprocess.run(command, check=False).returncode == 0


def _guided(name: str, seconds: int) -> int:
    import atheris

    with atheris.instrument_imports(include=["proxy", "apimgr.contracts"]):
        target = _target(name)
    found = HOME / name
    (found / "corpus").mkdir(parents=True, exist_ok=True)
    (found / "outside").mkdir(exist_ok=True)
    for number, data in enumerate(inputs(name)):
        (found / "outside" / str(number)).write_bytes(data)
    arguments = [
        "tests.fuzz", f"-max_total_time={seconds}", f"-max_len={MAX_INPUT}", "-print_final_stats=1", "-verbosity=0",
        f"-artifact_prefix={found}/", f"-dict={DICTIONARY}",
        str(found / "corpus"), str(found / "outside"), str(CORPUS / name),
    ]  # fmt: skip
    atheris.Setup(arguments, target)
    atheris.Fuzz()
    return 0


def _target(name: str) -> Callable[[bytes], None]:
    from tests.fuzz.readings import READINGS
    from tests.fuzz.targets import TARGETS
    from tests.fuzz.twin import Twin

    target = TARGETS[name]
    if name not in READINGS or not compiled.home().is_dir():
        return target
    twin = Twin()  # it ends when we do

    def both(data: bytes) -> None:
        target(data)
        twin.compare(name, data)

    return both


def _at_random(name: str, seconds: int) -> int:
    target = _target(name)
    seeds = [path.read_bytes() for path in sorted((CORPUS / name).iterdir())] + inputs(name)
    chance, runs, until = random.Random(0), 0, time.monotonic() + seconds
    while time.monotonic() < until:
        data = mutate(chance.choice(seeds), chance.choice(seeds), chance)
        try:
            target(data)
        except Exception:
            traceback.print_exc()
            kept = HOME / name / f"crash-{runs}"
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(data)
            print(f"Kept in {kept}")
            return 1
        runs += 1
    print(f"{runs} runs")
    return 0


def mutate(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """A few of: flip, remove, repeat, splice."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) + 1)
        match chance.randrange(5):
            case 0:
                changed[at : at + 1] = bytes((chance.randrange(256),))
            case 1:
                del changed[at : at + chance.randint(1, 8)]
            case 2:
                changed[at:at] = changed[at : at + chance.randint(1, 16)]
            case 3:
                start = chance.randrange(len(other) + 1)
                changed[at:at] = other[start : start + chance.randint(1, 32)]
            case _:
                changed[at:at] = chance.choice(TOKENS)
    return bytes(changed[:MAX_INPUT])


if __name__ == "__main__":
    sys.exit(main())
