from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimgr.contracts.credentials import (
    ALPHABET,
    DIGEST_BYTES,
    KEY_PATTERN,
    MAX_KEY_BYTES,
    digest_key,
    generate_key,
    is_well_formed,
    without_keys,
)
from apimgr.env import BASE_DIR

PEPPER = b"p" * 32
KEY = generate_key("ak").secret


@pytest.mark.requirement("K1.1")
def test_many_keys_all_match_and_none_repeats(pytestconfig: pytest.Config) -> None:
    """A hundred thousand; ``--keys 1000000`` for the million of K1."""
    count = pytestconfig.getoption("--keys")
    keys = {generate_key("ak").secret for _ in range(count)}
    assert len(keys) == count
    published = re.compile(KEY_PATTERN)
    assert all(published.fullmatch(key) and is_well_formed(key.encode()) for key in keys)


@pytest.mark.requirement("K1.2")
@given(st.integers(0, len(KEY) - 1), st.characters(codec="ascii"))
def test_one_wrong_character_is_noticed(position: int, char: str) -> None:
    typo = KEY[:position] + char + KEY[position + 1 :]
    assert is_well_formed(typo.encode()) == (typo == KEY)


@pytest.mark.requirement("K1.2")
@given(st.integers(0, len(KEY) - 2))
def test_two_swapped_neighbours_are_noticed(position: int) -> None:
    swapped = KEY[:position] + KEY[position + 1] + KEY[position] + KEY[position + 2 :]
    assert is_well_formed(swapped.encode()) == (swapped == KEY)


@given(st.binary(max_size=2 * MAX_KEY_BYTES))
def test_noise_is_no_key(noise: bytes) -> None:
    assert not is_well_formed(noise)


@pytest.mark.requirement("K1.1", "K2.1")
@pytest.mark.parametrize(
    "text",
    ["", KEY[:-1], KEY + "a", " " + KEY, KEY + "\n", KEY.upper(), KEY.replace("_live_", "_prod_"), KEY * 2],
    # The key is random: names made of it would differ between the processes of one run.
    ids=["empty", "cut", "longer", "leading space", "newline", "upper case", "unknown mode", "twice"],
)
def test_what_is_nearly_a_key_is_none(text: str) -> None:
    assert not is_well_formed(text.encode())


@pytest.mark.parametrize("prefix", ["a", "ak1", "apimgr", "a" * 12])
@pytest.mark.parametrize("mode", ["live", "test"])
def test_prefix_and_mode_are_readable(prefix: str, mode: str) -> None:
    if len(prefix) < 2:
        with pytest.raises(ValueError):
            generate_key(prefix)
        return
    key = generate_key(prefix, mode)  # type: ignore[arg-type]
    assert key.secret.startswith(f"{prefix}_{mode}_")
    assert key.secret.startswith(key.prefix)
    assert key.secret.endswith(key.last4)
    assert len(key.secret) <= MAX_KEY_BYTES


@pytest.mark.parametrize("prefix", ["", "1a", "A", "ak_", "a-k", "a" * 13, "é"])
def test_a_prefix_that_would_break_the_pattern_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError):
        generate_key(prefix)


@pytest.mark.requirement("K10.1", "K1.1")
def test_the_expression_is_published() -> None:
    page = (BASE_DIR / "docs" / "reference" / "keys.md").read_text()
    assert KEY_PATTERN.replace("?:", "") in page


RULES = BASE_DIR / "docs" / "reference" / "leak-rules"


def gitleaks(text: str) -> list[str]:
    """What the rule for gitleaks finds, as it does: the expression is tried where a keyword is, whatever its case."""
    (rule,) = tomllib.loads((RULES / "gitleaks.toml").read_text())["rules"]
    assert rule["regex"] == KEY_PATTERN
    return re.findall(rule["regex"], text) if any(word in text.lower() for word in rule["keywords"]) else []


def secretlint(text: str) -> list[str]:
    (rule,) = json.loads((RULES / "secretlintrc.json").read_text())["rules"]
    ((expression,),) = [pattern["patterns"] for pattern in rule["options"]["patterns"]]
    assert expression == f"/{KEY_PATTERN}/"
    return re.findall(expression[1:-1], text)


@pytest.mark.requirement("K10.4")
@pytest.mark.parametrize("scan", [gitleaks, secretlint])
def test_the_rules_for_scanners_find_keys_and_nothing_that_is_nearly_one(scan: Callable[[str], list[str]]) -> None:
    keys = [generate_key(prefix, mode).secret for prefix in ("ak", "a1", "a" * 12) for mode in ("live", "test")]  # type: ignore[arg-type]
    assert scan("".join(f"X-Api-Key: {key}\nurl='/a?key={key}'\n" for key in keys)) == [
        key for key in keys for _ in range(2)
    ]
    near = [KEY[:-1], KEY.upper(), KEY.replace("_live_", "_prod_"), KEY.replace("_", "-"), KEY[1:], "9" + KEY[1:]]
    for text in (*near, f"{KEY[:20]} {KEY[20:]}", ""):
        assert scan(text) == []


@pytest.mark.requirement("K9.1")
def test_a_key_is_cut_out_of_any_text() -> None:
    key = generate_key("acme").secret
    assert without_keys(f"/a/{key}/b?x{key}y".encode()) == b"/a/acme_live_***/b?xacme_live_***y"
    near = key[:-1] + ("a" if key[-1] != "a" else "b")
    for text in (b"", b"/a/b", b"a_live_" + b"x" * 60, near.encode()):
        assert without_keys(text) == text


@pytest.mark.requirement("K3.1")
def test_repr_shows_no_secret() -> None:
    key = generate_key("ak")
    assert key.secret not in repr(key)
    assert key.secret[len(key.prefix) : -4] not in repr(key)


@pytest.mark.requirement("K4.1")
@given(st.text(ALPHABET, max_size=60), st.text(ALPHABET, max_size=60))
def test_digests_differ_with_key_and_pepper(one: str, other: str) -> None:
    digest = digest_key(one.encode(), PEPPER)
    assert len(digest) == DIGEST_BYTES
    assert (digest == digest_key(other.encode(), PEPPER)) == (one == other)
    assert digest != digest_key(one.encode(), b"q" * 32)
