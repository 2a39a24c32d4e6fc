from __future__ import annotations

import hashlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr

import allmend
from allmend import database, runs
from allmend.database import schema
from allmend.errors import DoesNotFit, NotFound, UsageError
from allmend.redaction import redact
from allmend.runs.ids import ALPHABET, run_id

KILLS = int(os.environ.get("ALLMEND_TEST_KILLS", "5"))
TOKEN = "hf_" + "abcdefghijklmnopqrstuvwxyz"


def test_a_run_tells_what_was_set_read_chosen_measured_and_made(tmp_path):
    data = tmp_path / "data.csv"
    data.write_text("text,label\n")
    with runs.record("tune", settings={"budget": 900.0, "model": "m"}, subject=data) as run:
        run.input(data)
        run.input("m", name="model", sha256="0" * 64)
        run.choice("dtype", "float32", "this processor has no fast bfloat16")
        for step in range(5):
            run.metric(step, {"select/accuracy": step / 10}, loss=1 / (step + 1))
        adapter = run.folder / "adapter"
        adapter.mkdir()
        (adapter / "weights").write_text("w")
        run.output("adapter", adapter)
        during = runs.show(run.id)
        assert (during.state, during.ended) == ("running", None)
    found = runs.show(run.id)
    assert found.state == "done"
    assert found.ended >= found.started
    assert found.settings == {"budget": 900.0, "model": "m"}
    assert [(file.name, file.path) for file in found.inputs] == [
        ("data.csv", str(data)),
        ("model", str(Path("m").absolute())),
    ]
    assert found.inputs[0].sha256 == hashlib.sha256(data.read_bytes()).hexdigest()
    assert found.choice("dtype") == "float32"
    loss = found.metric("loss")
    assert (loss.last, loss.step, loss.least, loss.most, loss.points) == (0.2, 4, 0.2, 1.0, 5)
    assert [point.value for point in runs.series(run.id, "select/accuracy")] == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert found.output("adapter") == str(adapter)
    assert found.environment["allmend"] == allmend.__version__
    assert found.environment["cores"] >= 1
    assert type(found).from_json(found.to_json()) == found


def test_an_exception_is_a_failed_run_without_its_secrets():
    with pytest.raises(ValueError), runs.record("tune") as run:
        raise ValueError(f"no access with {TOKEN}")
    found = runs.show(run.id)
    assert (found.state, found.error) == ("failed", "ValueError: no access with [hidden]")
    with pytest.raises(DoesNotFit), runs.record("tune") as run:
        raise DoesNotFit("the model needs 9 GB", where="m", hint="Take a smaller one.")
    assert runs.show(run.id).error == "m: the model needs 9 GB\nTake a smaller one."


def test_stopping_it_is_interrupted():
    with pytest.raises(KeyboardInterrupt), runs.record("tune") as run:
        run.metric(0, loss=1.0)
        raise KeyboardInterrupt
    found = runs.show(run.id)
    assert (found.state, found.error) == ("interrupted", None)
    assert found.metric("loss").points == 1


class ServeSettings(BaseModel):
    api_key: SecretStr = SecretStr("x")
    hub_token: str = "abc"
    passphrase: str | None = None
    max_tokens: int = 5
    door: str = Field("open sesame", json_schema_extra={"secret": True})
    address: str = "postgresql://me:hunter2@host/name"
    nested: dict[str, str] = {"password": "p", "plain": f"Bearer of {TOKEN}"}


def test_secrets_never_reach_the_record(home):
    with runs.record("serve", settings=ServeSettings(), subject=f"https://u:pw@host/{TOKEN}") as run:
        run.choice("key", TOKEN, f"because of {TOKEN}")
        run.output("at", f"https://me:{TOKEN}@host/x")
    kept = json.dumps(runs.show(run.id).to_dict())
    for secret in (TOKEN, "hunter2", "open sesame", '"abc"', "u:pw"):
        assert secret not in kept
    assert runs.show(run.id).settings["max_tokens"] == 5
    assert runs.show(run.id).settings["passphrase"] is None
    database.forget()
    for file in home.glob("allmend.sqlite*"):
        assert TOKEN.encode() not in file.read_bytes()


def test_numbers_that_are_none_are_kept_as_missing():
    with runs.record("tune", settings={"rate": math.inf}) as run:
        run.metric(0, loss=math.nan)
        run.metric(1, loss=math.inf)
    found = runs.show(run.id)
    assert found.metric("loss").points == 2
    assert found.metric("loss").last is None
    assert found.settings == {"rate": "inf"}
    assert json.loads(found.to_json())


def test_metrics_arrive_while_the_run_goes_on():
    with runs.record("tune") as run:
        run.metric(0, loss=1.0)
        until = time.monotonic() + 10
        while runs.show(run.id).metric("loss") is None and time.monotonic() < until:
            time.sleep(0.02)
        assert runs.show(run.id).metric("loss").points == 1


def test_runs_are_named_by_id_parts_and_age():
    with runs.record("tune") as first, runs.record("verdict") as second, runs.record("tune") as third:
        pass
    assert runs.resolve(first.id) == first.id
    assert runs.resolve(second.id[:9]) == second.id
    assert runs.resolve(third.id[-4:]) == third.id
    assert runs.resolve("last") == third.id
    assert runs.resolve("last:verdict") == second.id
    with pytest.raises(UsageError) as caught:
        runs.resolve("tune-")
    assert first.id in caught.value.hint
    with pytest.raises(NotFound) as caught:
        runs.resolve(first.id.replace("tune", "tuen"))
    assert first.id in caught.value.hint
    with pytest.raises(NotFound) as caught:
        runs.resolve("last:verdct")
    assert "'verdict'" in caught.value.hint
    with pytest.raises(NotFound):
        runs.series(first.id, "loss")


def test_nothing_is_there_before_the_first_run(home):
    assert runs.list() == []
    with pytest.raises(NotFound, match="no runs yet"):
        runs.show("last")
    assert not home.exists()


def test_newest_first_and_by_verb():
    for verb in ("tune", "verdict", "tune"):
        with runs.record(verb):
            pass
    assert [run.verb for run in runs.list()] == ["tune", "verdict", "tune"]
    assert [run.verb for run in runs.list(verb="verdict")] == ["verdict"]
    assert len(runs.list(limit=1)) == 1


def test_comparing_shows_what_differs(tmp_path):
    for rate, loss in ((1e-3, 0.5), (1e-4, 0.7)):
        data = tmp_path / "data.csv"
        data.write_text(str(rate))
        with runs.record("tune", settings={"rate": rate, "rank": 8}) as run:
            run.input(data)
            run.choice("dtype", "float32", "x")
            run.metric(0, loss=loss, same=1.0)
    first, second = (one.id for one in reversed(runs.list()))
    found = runs.compare(first, second)
    assert [(d.name, d.first, d.second) for d in found.settings] == [("rate", 1e-3, 1e-4)]
    assert [d.name for d in found.inputs] == ["data.csv"]
    assert found.choices == []
    assert {d.name: (d.first, d.second) for d in found.metrics} == {"loss": (0.5, 0.7), "same": (1.0, 1.0)}
    assert found.environment == []


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)), st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1))
)
def test_ids_sort_by_time(one, other):
    first, second = sorted(moment.replace(tzinfo=UTC) for moment in (one, other))
    names = run_id("tune", first), run_id("tune", second)
    assert names[0] <= names[1]
    assert set(names[0][-4:]) <= set(ALPHABET)


@given(st.text(max_size=200))
def test_hiding_secrets_twice_changes_nothing(text):
    assert redact(redact(text)) == redact(text)


def test_importing_runs_is_light():
    script = "import sys, allmend; allmend.runs; print({'sqlalchemy', 'alembic', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


WORK = """
import sys
from allmend import runs
with runs.record("tune") as run:
    print(run.id, flush=True)
    sys.stdin.read(1)
    for step in range(int(sys.argv[1])):
        run.metric(step, loss=float(step))
        if step % 100 == 0:
            run.choice(f"c{step}", step, "because")
"""


def start(steps):
    return subprocess.Popen(
        [sys.executable, "-c", WORK, str(steps)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_many_processes_write_at_once():
    workers = [start(1000) for _ in range(5)]
    for worker in workers:
        worker.stdin.write("x")
        worker.stdin.close()
    names = [worker.stdout.read().strip() for worker in workers]
    assert [worker.wait() for worker in workers] == [0] * 5
    for worker in workers:
        worker.stdout.close()
    assert len(set(names)) == 5
    for name in names:
        found = runs.show(name)
        assert found.state == "done"
        assert len(found.choices) == 10
        assert [point.value for point in runs.series(name, "loss")] == [float(step) for step in range(1000)]


def test_a_killed_run_is_seen_as_interrupted_and_keeps_what_it_wrote():
    chance = random.Random(11)
    for _ in range(KILLS):
        worker = start(10**9)
        name = worker.stdout.readline().strip()
        assert runs.show(name).state == "running"
        worker.stdin.write("x")
        worker.stdin.flush()
        time.sleep(chance.uniform(0, 0.8))
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        worker.stdin.close()
        worker.stdout.close()
        [found] = [run for run in runs.list() if run.id == name]
        assert (found.state, found.ended) == ("interrupted", None)
        assert runs.show(name).state == "interrupted"
        if found.metrics:
            points = [point.value for point in runs.series(name, "loss")]
            assert points == [float(step) for step in range(len(points))], "a batch is there whole or not at all"
    with database.reading() as connection:
        if connection.dialect.name == "sqlite":
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        states = connection.exec_driver_sql("SELECT DISTINCT state FROM runs").scalars().all()
    assert states == ["interrupted"], "what was seen is written down"


def test_a_worker_that_outlives_its_run_does_not_keep_it_alive():
    script = """
import os, sys, time
from allmend import runs
recorder = runs.record("tune").__enter__()
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
print(recorder.id, child, flush=True)
sys.stdin.read()
"""
    worker = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    name, child = worker.stdout.readline().split()
    try:
        assert runs.show(name).state == "running"
        worker.kill()
        worker.wait()
        assert runs.show(name).state == "interrupted"
    finally:
        os.kill(int(child), signal.SIGKILL)
        worker.stdin.close()
        worker.stdout.close()


def test_a_run_of_another_machine_is_left_as_it_is():
    with runs.record("tune") as run:
        pass
    elsewhere = json.dumps({"machine": "elsewhere"})
    with database.writing() as connection:
        values = {"state": "running", "environment": elsewhere, "folder": "/nowhere/at/all"}
        connection.execute(schema.runs.update().values(values))
    assert runs.show(run.id).state == "running"


def test_a_name_that_another_machine_took_is_passed_over(monkeypatch, tmp_path):
    with runs.record("tune") as here:
        pass
    monkeypatch.setattr("allmend.runs.recording.datetime", Frozen(runs.show(here.id).started))
    monkeypatch.setenv("ALLMEND_DATABASE", database.address())
    monkeypatch.setenv("ALLMEND_HOME", str(tmp_path / "elsewhere"))
    with runs.record("tune") as there:
        pass
    assert there.id > here.id
    assert [one.id for one in runs.list()] == [there.id, here.id]
    assert [entry.name for entry in (tmp_path / "elsewhere" / "runs").iterdir()] == [there.id]


class Frozen:
    """A clock that stands still: two machines that begin in the same 82 milliseconds."""

    def __init__(self, moment):
        self.moment = moment

    def now(self, zone):
        return self.moment
