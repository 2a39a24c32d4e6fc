"""Every attack, at every level, as root and as an ordinary user: stopped, and in the receipt."""

from __future__ import annotations

from functools import cache

import pytest
from attacks import ATTACKS, Attack
from boxed_jobs import CASE_IDS, CASES, Jobs, Ran

PERMISSIONS = """
[network]
hosts = ["allowed.example", "rebind.example"]
[files]
write = "taken"
"""


ODD = {b"\xff\xfe.txt", b"\xed\xa0\x80", b"n" * 255, b"..\\x"}


@pytest.fixture(scope="module")
def ran(jobs: Jobs):
    """The notebook of all attacks, run once for each case."""

    @cache
    def once(level: str, who: str) -> Ran:
        return jobs.run(
            [attack.source for attack in ATTACKS], level=level, who=who, permissions=PERMISSIONS, timeout=300
        )

    return once


@pytest.mark.parametrize(("level", "who"), CASES, ids=CASE_IDS)
@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.name for attack in ATTACKS])
def test_it_is_stopped_and_in_the_receipt(ran, attack: Attack, level: str, who: str) -> None:
    result: Ran = ran(level, who)
    cell = ATTACKS.index(attack)
    text = result.text(cell)
    assert result.receipt.cells[cell].status in ("ok", "error"), text
    if level == "B" and attack.gap_at_b:
        assert any(attack.gap_at_b in line for line in result.receipt.enforcement.missing)
        return
    assert "GOT THROUGH" not in text, text
    assert attack.seen(result, cell), (text, [e for e in result.receipt.events if e.cell == cell])


@pytest.mark.parametrize(("level", "who"), CASES, ids=CASE_IDS)
def test_nothing_around_the_box_was_touched(ran, level: str, who: str) -> None:
    result: Ran = ran(level, who)
    world = result.world
    assert world["victim_alive"] and not world["changed"]
    assert world["secret_connections"] == world["abstract_connections"] == world["socket_connections"] == 0
    assert world["host"] == ["id_rsa"]
    assert not [path for path in world["home"] if not path.startswith(".cache")], world["home"]
    assert world["scratch_gone"] and world["left"] == []
    everything = (result.folder / "out" / "receipt.json").read_text() + result.html
    assert "CANARY" not in everything


@pytest.mark.parametrize(("level", "who"), CASES, ids=CASE_IDS)
def test_only_plain_declared_outputs_came_out(ran, level: str, who: str) -> None:
    taken = ran(level, who).folder / "taken"
    found = sorted(str(path.relative_to(taken)) for path in taken.rglob("*"))
    odd = [name for name in found if name.startswith("outputs/") and name != "outputs/fine.txt"]
    assert [name for name in found if name not in odd] == ["outputs", "outputs/fine.txt"]
    # Strange names that are only strange come out as they are.
    assert all(name.encode("utf-8", "surrogateescape")[8:] in ODD for name in odd), odd
    assert (taken / "outputs/fine.txt").stat().st_mode & 0o7777 == 0o644
    assert not any(path.is_symlink() for path in taken.rglob("*"))
