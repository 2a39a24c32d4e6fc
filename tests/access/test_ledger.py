"""The ledger: every answer once, to the token, through restarts and kill -9; prices; sums."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from allmend import database
from allmend.access import audit, prices, trimming, usage
from allmend.access.ledger import Ledger, Opening, Settled, recover, used_today
from allmend.access.quotas import today
from allmend.access.trimming import trim
from allmend.errors import Unavailable, UsageError


def opening(number, **more):
    values = {"key": "k1", "account": "anna", "user": None, "route": "/v1/chat/completions", "model": "m"}
    return Opening(id=f"use-{number}", **{**values, "adapter": None, **more})


@pytest.fixture
def ledger():
    made = Ledger()
    yield made
    made.close()


def test_sums_are_those_of_the_answers(ledger):
    def answer(number):
        ledger.open(opening(number, user=f"u{number % 3}", adapter="mine" if number % 2 else None))
        ledger.settle(f"use-{number}", Settled(number, 1, 2 * number)).result(timeout=60)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(answer, range(1, 101)))
    (total,) = usage.summary(["account"])
    assert (total.answers, total.prompt, total.completion) == (100, 5050, 10100)
    assert {row.group["user"]: row.answers for row in usage.summary(["user"])} == {"u0": 33, "u1": 34, "u2": 33}
    assert used_today(("k1", None), today()) == 15150
    assert used_today(("k1", "u0"), today()) == 3 * sum(range(3, 100, 3))
    assert len(list(usage.rows(month=today()[:7]))) == 100 == len(list(usage.rows(account="Anna")))


def test_an_answer_is_settled_once(ledger):
    ledger.open(opening(1)).result(timeout=60)
    for tokens in (5, 7):
        ledger.settle("use-1", Settled(tokens, 0, tokens)).result(timeout=60)
    (total,) = usage.summary(["model"])
    assert (total.prompt, total.completion) == (5, 5)


def test_prices_are_those_of_the_moment(ledger, monkeypatch):
    monkeypatch.setattr("allmend.access.ledger._PRICES_SECONDS", 0.0)
    prices.put("m", prompt="0.15", completion="0.6", cached="0.0375")
    prices.put("mine", prompt="1", completion="2", currency="USD")

    def answer(number, adapter):
        ledger.open(opening(number, adapter=adapter))
        ledger.settle(f"use-{number}", Settled(1000, 200, 100)).result(timeout=60)

    answer(1, None)
    answer(2, "mine")
    prices.put("m", prompt="10", completion="10")
    answer(3, None)
    monkeypatch.setattr("allmend.access.prices.time.time", lambda: 1e9)  # The clock was put back.
    prices.put("m", prompt="20", completion="20")
    assert prices.current()["m"].prompt == "20"
    costs = {row["id"]: (row["cost"], row["currency"]) for row in usage.rows()}
    assert costs["use-1"] == ("0.0001875", "EUR")  # 800 * 0.15 + 200 * 0.0375 + 100 * 0.6 millionths
    assert costs["use-2"] == ("0.0012", "USD")
    assert costs["use-3"] == ("0.011", "EUR")


def test_a_price_is_not_got_around_by_a_scale_a_companion_or_a_revision(ledger, monkeypatch):
    monkeypatch.setattr("allmend.access.ledger._PRICES_SECONDS", 0.0)
    for model, price in (("m", "1"), ("cheap", "2"), ("dear", "100"), ("anna/film", "50")):
        prices.put(model, prompt=price, completion=price)
    asked = {
        "dear*0.999": ("dear",),
        "cheap+dear*1e-06": ("cheap", "dear"),
        "anna/film@abc": ("anna/film@abc",),
        "other": ("other",),
    }
    for label, names in asked.items():
        ledger.open(opening(label, adapter=label, adapters=names))
        ledger.settle(f"use-{label}", Settled(1000, 0, 0)).result(timeout=60)
    costs = {row["adapter"]: row["cost"] for row in usage.rows()}
    assert costs == {"dear*0.999": "0.1", "cheap+dear*1e-06": "0.1", "anna/film@abc": "0.05", "other": "0.001"}


def test_what_was_taken_for_lost_is_settled_by_who_knows(ledger):
    """Another machine of the same name, with a home of its own, sees no lock of this server."""
    for number in (1, 2):
        ledger.open(opening(number)).result(timeout=60)
    with database.writing() as connection:
        connection.execute(text("UPDATE usage SET state = 'lost'"))
    both = [ledger.settle(f"use-{number}", Settled(5, 0, 7)) for number in (1, 2)]
    for done in both:
        done.result(timeout=60)
    (total,) = usage.summary(["state"])
    assert (total.group["state"], total.answers, total.completion) == ("settled", 2, 14)


def test_what_failed_is_in_no_bill(ledger):
    for number, state in enumerate(("settled", "cancelled", "failed")):
        ledger.open(opening(number))
        ledger.settle(f"use-{number}", Settled(1, 0, 1, state)).result(timeout=60)
    (total,) = usage.summary(["account"])
    assert total.answers == 2
    assert {row.group["state"]: row.answers for row in usage.summary(["state"])} == {
        "settled": 1, "cancelled": 1, "failed": 1
    }  # fmt: skip


def test_a_server_that_ended_leaves_nothing_behind(home):
    Ledger().close()
    assert list((home / "servers").iterdir()) == []


@pytest.mark.parametrize("wrong", [{"prompt": "-1"}, {"prompt": "x"}, {"completion": "NaN"}, {"currency": "euro"}])
def test_what_is_no_price(wrong):
    with pytest.raises(UsageError):
        prices.put("m", **{"prompt": "1", "completion": "1", **wrong})


def test_wrong_questions_are_told():
    with pytest.raises(UsageError, match="mnth"):
        usage.summary(["mnth"])
    for wrong in ("November", "2026-13", "2026-1", "\u0662\u0660\u0662\u0666-01"):
        with pytest.raises(UsageError, match="month"):
            usage.summary(month=wrong)


def test_what_was_told_before_kill_9_is_in_the_ledger(home):
    """Lines are printed once an answer is settled; the process is killed in the middle of many."""
    script = (
        "import sys, threading, itertools\n"
        "from allmend.access.ledger import Ledger, Opening, Settled\n"
        "ledger, numbers, lock = Ledger(), itertools.count(1), threading.Lock()\n"
        "def work():\n"
        "    for number in numbers:\n"
        "        ledger.open(Opening(f'use-{number}', 'k1', 'anna', None, '/v1', 'm', None))\n"
        "        ledger.settle(f'use-{number}', Settled(number, 0, 1)).result()\n"
        "        with lock: print(number, flush=True)\n"
        "        ledger.open(Opening(f'open-{number}', 'k1', 'anna', None, '/v1', 'm', None))\n"
        "for _ in range(8): threading.Thread(target=work, daemon=True).start()\n"
        "threading.Event().wait()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=os.environ.copy())
    told = [int(process.stdout.readline()) for _ in range(60)]
    process.send_signal(signal.SIGKILL)
    told += [int(line) for line in process.stdout.read().splitlines() if line.endswith("") and line.isdigit()]
    process.wait()
    process.stdout.close()
    found = {row["id"]: row for row in usage.rows()}
    for number in told:
        row = found[f"use-{number}"]
        assert (row["state"], row["prompt"], row["completion"]) == ("settled", number, 1)
    beyond = [row for row in found.values() if row["state"] == "settled" and int(row["id"][4:]) not in told]
    assert len(beyond) <= 8  # Settled in the instant before their line was out.
    assert recover() > 0 and recover() == 0
    states = {row["state"] for row in usage.rows() if row["id"].startswith("open-")}
    assert states == {"lost"}
    assert sum(row["prompt"] for row in usage.rows() if row["state"] == "lost") == 0


def test_a_server_that_lives_keeps_what_is_open(ledger):
    ledger.open(opening(1)).result(timeout=60)
    assert recover() == 0
    assert [row["state"] for row in usage.rows()] == ["open"]


def test_who_waits_no_longer_does_not_stop_the_ledger(ledger):
    for number in range(50):
        ledger.open(opening(number)).cancel()
        ledger.settle(f"use-{number}", Settled(1, 0, 1)).cancel()
    ledger.open(opening("last")).result(timeout=60)
    ledger.settle("use-last", Settled(1, 0, 1)).result(timeout=60)
    assert sum(row.answers for row in usage.summary(["state"]) if row.group["state"] == "settled") == 51


def test_old_months_can_be_taken_out_into_a_file(ledger, tmp_path, monkeypatch):
    monkeypatch.setattr("allmend.access.trimming._TOGETHER", 3)
    for number in range(10):
        ledger.open(opening(number)).result(timeout=60)
        if number != 4:  # which is under way
            ledger.settle(f"use-{number}", Settled(number, 0, 1)).result(timeout=60)
    with database.writing() as connection:
        connection.execute(text("UPDATE usage SET day = '2025-12-31' WHERE id IN ('use-1', 'use-2', 'use-3', 'use-4')"))
        connection.execute(text("UPDATE usage SET day = '2026-01-01' WHERE id = 'use-5'"))
    before = {row["id"]: row for row in usage.rows()}
    file = tmp_path / "old.csv"
    publish = trimming._publish

    def meanwhile(hidden, to):  # One that ended before, and is written into the ledger only now.
        with database.writing() as connection:
            connection.execute(text("UPDATE usage SET day = '2025-12-31' WHERE id = 'use-6'"))
        publish(hidden, to)

    monkeypatch.setattr(trimming, "_publish", meanwhile)
    assert trim("2026-01", file) == 3
    taken = list(csv.DictReader(file.read_text().splitlines()))
    assert [row["id"] for row in taken] == ["use-1", "use-2", "use-3"] and list(taken[0]) == list(usage.COLUMNS)
    assert all(row["prompt"] == str(before[row["id"]]["prompt"]) for row in taken)
    assert {row["id"] for row in usage.rows()} == set(before) - {"use-1", "use-2", "use-3"}
    ledger.settle("use-4", Settled(4, 0, 1)).result(timeout=60)
    assert {row["id"]: row["state"] for row in usage.rows()}["use-4"] == "settled"
    (noted,) = audit.read(action="usage.trim")
    assert noted.target == "2026-01" and noted.details == {"rows": 3, "file": "old.csv"}
    for month, to in (("2026-01", file), ("2999-01", tmp_path / "x.csv"), ("January", tmp_path / "x.csv")):
        with pytest.raises(UsageError):
            trim(month, to)
    with pytest.raises(Unavailable, match="cannot be written"):
        trim("2026-01", tmp_path / "nowhere" / "x.csv")
    assert [path.name for path in tmp_path.glob("*.csv*")] == ["old.csv"]


def test_what_killed_servers_left_goes_and_one_that_runs_is_left_alone(ledger, monkeypatch):
    from allmend.home import home

    (mine,) = home("servers").glob("*.lock")
    killed = home("servers") / "killed.lock"
    killed.touch()
    recover()
    assert killed.exists()  # It may be one that begins at this moment.
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 2 * 86400)
    recover()
    assert list(home("servers").glob("*.lock")) == [mine]
