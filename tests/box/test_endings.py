"""However a run ends, everything inside ends with it, and the executed cells and the receipt say how it ended."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import time
from pathlib import Path

import pytest
from boxed_jobs import CASE_IDS, CASES, WHO, Jobs

SLEEP = f"654.{secrets.randbelow(10**9):09}"
"""Seconds that processes of these tests sleep: nobody else's on this machine do."""

each_case = pytest.mark.parametrize(("level", "who"), CASES, ids=CASE_IDS)
each_user = pytest.mark.parametrize("who", WHO)


@each_case
def test_a_fork_bomb_meets_its_limit(jobs: Jobs, level: str, who: str) -> None:
    bomb = (
        "import os, time\nmade = 0\ntry:\n    while made < 400:\n        if os.fork() == 0:\n            time.sleep(60)\n            os._exit(0)\n"
        "        made += 1\nexcept OSError as e: print('stopped', e)\nprint('made', made)"
    )
    ran = jobs.run([bomb], level=level, who=who, permissions="[limits]\nprocesses = 64\n")
    made = int(ran.text(0).split("made")[1])
    assert made < 64
    assert ran.receipt.ended == "finished" and ran.world["left"] == []


@each_case
def test_a_memory_bomb_meets_its_limit(jobs: Jobs, level: str, who: str) -> None:
    bomb = "x = []\nfor _ in range(60):\n    x.append(bytearray(50_000_000))\nprint('GOT', 'THROUGH')"
    ran = jobs.run(
        ["print('first')", bomb, "print('after')"], level=level, who=who, permissions='[limits]\nmemory = "600M"\n'
    )
    assert "GOT THROUGH" not in ran.text(1)
    assert ran.text(0).strip() == "first"
    if who == "root":
        assert ran.receipt.ended == "memory-limit", ran.receipt.ended_why
        assert ran.receipt.cells[1].status == "died"
        assert ran.receipt.cells[2].status == "not-run"
        assert ran.events("limit", "memory-limit")
    else:
        assert "MemoryError" in ran.text(1)
        note = next(limit for limit in ran.receipt.limits if limit.name == "memory").note
        assert "each process" in (note or "")


@each_case
def test_the_time_limit_ends_processes_that_left_the_session(jobs: Jobs, level: str, who: str) -> None:
    cells = [
        f"import subprocess\nfor _ in range(3): subprocess.Popen(['setsid', 'sleep', '{SLEEP}'])\nprint('started')",
        "import time\nwhile True:\n    try: time.sleep(100)\n    except BaseException: pass",
    ]
    for seconds in (4, 20, 80):
        ran = jobs.run(cells, level=level, who=who, permissions=f'[limits]\ntime = "{seconds}s"\n')
        assert ran.receipt.ended == "time-limit"
        if ran.receipt.cells[1].status != "not-run":  # Else the machine is so busy that it came to no second cell.
            break
    assert ran.text(0).strip() == "started"
    assert ran.receipt.cells[1].status == "died"
    assert f"longer than {seconds} s" in ran.text(1)
    assert not _sleepers(SLEEP)


def _sleepers(seconds: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == b"sleep\0" + seconds.encode() + b"\0":
                found.append(path.parent.name)
        except OSError:
            continue
    return found


@each_user
def test_a_cell_that_ignores_its_interruption_is_ended(jobs: Jobs, who: str) -> None:
    cells = [
        "import time\ntry: time.sleep(50)\nexcept KeyboardInterrupt: print('heard it'); raise",
        "while True:\n    try:\n        time.sleep(50)\n    except BaseException: pass",
        "print('after')",
    ]
    ran = jobs.run(cells, who=who, permissions='[limits]\ncell_time = "2s"\n')
    assert ran.receipt.cells[0].status == "interrupted" and "heard it" in ran.text(0)
    assert ran.receipt.cells[1].status == "died"
    assert ran.receipt.cells[2].status == "not-run"
    assert ran.receipt.ended == "cell-time-limit"


@each_case
def test_a_kernel_that_dies_is_told(jobs: Jobs, level: str, who: str) -> None:
    ran = jobs.run(["print('one')", "import os; os._exit(3)", "print('three')"], level=level, who=who)
    assert ran.receipt.ended == "kernel-died"
    assert [cell.status for cell in ran.receipt.cells] == ["ok", "died", "not-run"]


@each_user
def test_killing_everything_it_can_ends_only_itself(jobs: Jobs, who: str) -> None:
    ran = jobs.run(["import os\nos.kill(-1, 9)\nimport time; time.sleep(20)"], who=who)
    assert ran.receipt.ended in ("failed", "kernel-died")
    assert ran.world["victim_alive"]


@each_user
def test_the_disk_limit_counts_all_files(jobs: Jobs, who: str) -> None:
    cell = "import time\nfor n in range(200):\n    open(f'f{n}', 'wb').write(b'x' * 2_000_000)\n    time.sleep(0.05)\nprint('GOT', 'THROUGH')"
    ran = jobs.run([cell], who=who, permissions='[limits]\ndisk = "40M"\n')
    assert "GOT THROUGH" not in ran.text(0)
    assert ran.receipt.ended == "disk-limit" or "No space left" in ran.text(0) or "File too large" in ran.text(0)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
@each_user
def test_an_interruption_leaves_cells_and_receipt(jobs: Jobs, who: str, how: signal.Signals) -> None:
    folder, process = _begin(jobs, who)
    os.kill(int((folder / "pid").read_text()), how)
    assert process.wait(timeout=120) == 0
    ran = jobs.result(folder)
    assert ran.receipt.ended == "interrupted"
    assert ran.text(0).strip() == "begun"
    assert ran.receipt.cells[1].status == "interrupted"
    assert not _sleepers(SLEEP)


@each_case
def test_a_killed_supervisor_takes_everything_along(jobs: Jobs, level: str, who: str) -> None:
    folder, process = _begin(jobs, who, level)
    scratch = folder / "scratch"
    os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
    process.wait(timeout=120)
    deadline = time.monotonic() + 60
    while _sleepers(SLEEP) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _sleepers(SLEEP)
    ran = jobs.result(folder)
    assert ran.receipt.ended == "unfinished"
    assert "killed" in ran.receipt.ended_why
    assert ran.text(0).strip() == "begun"
    # What it left behind is taken away by the next run there.
    assert list(scratch.iterdir())
    after = jobs.prepare(["1"], level=level, who=who, scratch=str(scratch))
    command, environment = jobs.command(after, level, who)
    assert subprocess.run(command, env=environment, cwd="/", timeout=180, check=False).returncode == 0
    assert not list(scratch.iterdir())


def _begin(jobs: Jobs, who: str, level: str = "A") -> tuple[Path, subprocess.Popen[bytes]]:
    cells = [
        # The name of a process is bytes: one that is no text must not save it from the keeper.
        "import ctypes\nctypes.CDLL(None).prctl(15, b'\\xff) \\xfe(', 0, 0, 0)\n"
        f"import subprocess\nsubprocess.Popen(['setsid', 'sleep', '{SLEEP}'])\nprint('begun')",
        "import time; open('ready', 'w'); time.sleep(100)",
    ]
    folder = jobs.prepare(cells, level=level, who=who, scratch="@")
    scratch = folder / "scratch"
    scratch.mkdir()
    scratch.chmod(0o777)
    order = (folder / "order.json").read_text().replace('"scratch": "@"', f'"scratch": "{scratch}"')
    (folder / "order.json").write_text(order)
    command, environment = jobs.command(folder, level, who)
    process = subprocess.Popen(command, env=environment, cwd="/")
    deadline = time.monotonic() + 120
    while not list(scratch.glob("*/content/ready")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(scratch.glob("*/content/ready"))
    # What the first cell said is written while the second one runs.
    while "begun" not in _outputs(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    return folder, process


def _outputs(folder: Path) -> str:
    cells = json.loads((folder / "out" / "executed.ipynb").read_text())["cells"]
    return str([cell["outputs"] for cell in cells])


@each_user
def test_a_flood_of_output_is_cut(jobs: Jobs, who: str) -> None:
    cells = ["line = 'x' * 999\nfor _ in range(40_000): print(line)", "print('after')"]
    ran = jobs.run(cells, who=who)
    size = sum(len(str(output)) for output in ran.cells[0]["outputs"])
    assert size < 12_000_000
    assert "cut after 10 MiB" in ran.text(0)
    assert ran.text(1).strip() == "after"


@each_user
def test_a_huge_message_does_not_reach_the_reader(jobs: Jobs, who: str) -> None:
    cells = [
        "from IPython.display import display\ndisplay({'text/plain': 'x' * 100_000_000}, raw=True)",
        "print('after')",
    ]
    ran = jobs.run(cells, who=who)
    assert sum(len(str(output)) for output in ran.cells[0]["outputs"]) < 12_000_000
    assert (ran.folder / "out" / "executed.ipynb").stat().st_size < 20_000_000


@each_user
def test_connections_without_end_are_refused_and_the_run_goes_on(jobs: Jobs, who: str) -> None:
    cells = [
        "import os, socket\nheld = []\nfor _ in range(700):\n    s = socket.socket()\n    s.settimeout(2)\n"
        "    try: s.connect(('127.0.0.1', 3128)); held.append(s)\n    except OSError: pass\nprint(len(held))",
        "for s in held: s.close()\nimport time, urllib.request; time.sleep(0.5)\n"
        "print(urllib.request.urlopen('http://allowed.example/x', timeout=10).read())",
    ]
    ran = jobs.run(cells, who=who, permissions='[network]\nhosts = ["allowed.example"]\n')
    assert ran.events("limit", "connections at once")
    assert "CONTENT" in ran.text(1)


@each_user
def test_links_that_change_while_outputs_are_taken(jobs: Jobs, who: str) -> None:
    cells = [
        "import os, threading, time\nos.makedirs('outputs/d', exist_ok=True)\ndef flip():\n    while True:\n"
        "        for make in (lambda: os.symlink('@CANARY@', 'outputs/t'), lambda: open('outputs/t', 'w').write('plain')):\n"
        "            try: make(); os.replace('outputs/t', 'outputs/x')\n            except OSError: pass\n"
        "        try: os.rename('outputs/d', 'outputs/e'); os.symlink('@HOST@', 'outputs/d'); os.unlink('outputs/d'); os.rename('outputs/e', 'outputs/d')\n"
        "        except OSError: pass\nfor _ in range(4): threading.Thread(target=flip, daemon=True).start()\ntime.sleep(0.5)",
    ]
    ran = jobs.run(cells, who=who, permissions='[files]\nwrite = "taken"\n')
    for path in (ran.folder / "taken").rglob("*"):
        assert not path.is_symlink()
        assert path.is_dir() or "CANARY" not in path.read_text()


@each_user
def test_a_hollow_file_does_not_fill_the_disk(jobs: Jobs, who: str) -> None:
    cells = [
        "import os\nos.makedirs('outputs', exist_ok=True)\nfor n in range(8):\n    with open(f'outputs/hollow{n}', 'wb') as f: f.truncate(40_000_000)\nprint('made')",
    ]
    ran = jobs.run(cells, who=who, permissions='[files]\nwrite = "taken"\n[limits]\ndisk = "100M"\n')
    taken = sum(path.stat().st_size for path in (ran.folder / "taken").rglob("*"))
    assert taken <= 100 * 2**20
    assert any("larger than the disk limit" in (file.why_not or "") for file in ran.receipt.files)


@each_case
def test_folders_without_end_hold_up_neither_this_run_nor_the_next(jobs: Jobs, level: str, who: str) -> None:
    cell = "import os\nfor _ in range(3000):\n    os.mkdir('d'); os.chdir('d')\nos.chmod('..', 0)\nimport time; time.sleep(60)"
    ran = jobs.run(["print('before')", cell], level=level, who=who, timeout=100)
    assert ran.receipt.ended == "disk-limit" and "folders deep" in ran.receipt.ended_why
    assert ran.text(0).strip() == "before" and ran.world["scratch_gone"]
