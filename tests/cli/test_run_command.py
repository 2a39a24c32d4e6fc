"""`allmend run` at a terminal and without one; the commands of docs/run.md as they stand there."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CELLS = [
    'prompt = "a dog"  #@param {type:"string"}',
    "import os\nprint(prompt)\nos.makedirs('outputs', exist_ok=True)\nopen('outputs/out.txt', 'w').write(prompt)",
]


CTRL_C = "\x03"
RUN = [sys.executable, "-m", "allmend", "run", "nb.ipynb"]
ASKS = [
    "import os, time, urllib.request as u\nname = os.popen('echo asked.invalid').read().strip()",
    "print('typing'); time.sleep(1.5)\n"
    "for n in range(3):\n    try: u.urlopen(('http', 'https')[n % 2] + '://' + name + '/', timeout=60)\n"
    "    except OSError as e: print('came back:', e)",
    "print('after')",
]


def notebook(folder: Path, cells: list[str] = CELLS, name: str = "nb.ipynb") -> Path:
    made = [{"cell_type": "code", "source": c, "metadata": {}, "outputs": [], "execution_count": None} for c in cells]
    path = folder / name
    path.write_text(json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    return path


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "ALLMEND_HOME": tempfile.mkdtemp(),
        "PYTHONPATH": str(ROOT / "src"),
        "TERM": "dumb",
        "COLUMNS": "200",
    }


def unattended(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "allmend", *words]
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=180,
        check=False,
    )


def at_a_terminal(
    folder: Path, command: list[str], answers: list[str], *, early: str = "", pause: float = 0, **variables: str
) -> tuple[int, str]:
    """Run a command on a terminal of its own, answering each [y/N] and what a cell reads.

    Returns its exit code and what was shown.

    `early` is typed as soon as the first cell has begun, before it asks anything.
    """
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execvpe(command[0], command, environment() | variables)
    shown, asked = "", 0
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if select.select([fd], [], [], 0.2)[0]:
            try:
                block = os.read(fd, 65536)
            except OSError:
                break
            if not block:
                break
            shown += block.decode("utf-8", "replace")
            if early and "│ typing" in shown:
                os.write(fd, early.encode())
                early = ""
            if shown.count("[y/N]") + shown.count("\n> ") > asked:
                time.sleep(pause)
                answer = answers[asked] if asked < len(answers) else "n"
                os.write(fd, answer.encode() + (b"" if answer == CTRL_C else b"\n"))
                asked += 1
    else:
        os.kill(pid, 9)
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    return os.waitstatus_to_exitcode(status), shown


def test_nothing_runs_unasked(tmp_path: Path) -> None:
    notebook(tmp_path)
    done = unattended(tmp_path, "run", "nb.ipynb")
    assert done.returncode == 8
    assert "nobody was asked" in done.stderr and "--yes" in done.stderr
    assert not (tmp_path / "nb-run").exists()


def test_a_run_shows_its_receipt_in_a_few_lines(tmp_path: Path) -> None:
    notebook(tmp_path)
    done = unattended(tmp_path, "run", "nb.ipynb", "-p", "prompt=a cat", "--yes")
    assert done.returncode == 0, done.stderr
    assert "enforced (level A)" in done.stdout and len(done.stdout.splitlines()) <= 12
    assert "a cat" in done.stderr
    assert "Traceback" not in done.stderr
    as_json = unattended(tmp_path, "run", "nb.ipynb", "--yes", "--json")
    assert json.loads(as_json.stdout)["schema"] == "allmend.receipt/1"


def test_exit_codes(tmp_path: Path) -> None:
    notebook(tmp_path, ["1 / 0"], "fails.ipynb")
    assert unattended(tmp_path, "run", "fails.ipynb", "--yes").returncode == 12
    hidden = "import urllib.request as u\nname = bytes([115, 46, 101, 120, 97, 109, 112, 108, 101]).decode()\n"
    notebook(
        tmp_path, [hidden + "try: u.build_opener().open('http' + '://' + name)\nexcept OSError: pass"], "hides.ipynb"
    )
    done = unattended(tmp_path, "run", "hides.ipynb", "--yes", "--check")
    assert done.returncode in (8, 11), done.stderr
    if done.returncode == 11:
        assert "the plan does not say" in done.stderr
    assert unattended(tmp_path, "run", "missing.ipynb").returncode == 5
    assert unattended(tmp_path, "run", "fails.ipynb", "--allow", "nonsense").returncode == 4
    assert unattended(tmp_path, "run", "fails.ipynb", "--yes", "--level", "C").returncode == 2


def test_it_asks_at_the_start_and_while_a_cell_waits(tmp_path: Path) -> None:
    cells = [
        "import os, urllib.request as u\nname = os.popen('echo asked.invalid').read().strip()",
        "try: u.urlopen('http://' + name + '/', timeout=30)\nexcept OSError as e: print('came back:', e)",
        "try: u.urlopen('http://' + name + '/', timeout=30)\nexcept OSError as e: print('again:', e)",
    ]
    notebook(tmp_path, cells)
    command = [sys.executable, "-m", "allmend", "run", "nb.ipynb"]
    code, shown = at_a_terminal(tmp_path, command, ["y", "n"])
    if "must be granted by name" in shown:
        pytest.fail(shown)
    assert code == 0, shown
    assert shown.count("wants host asked.invalid") == 1, shown
    assert "HTTP Error 403" in shown
    code, shown = at_a_terminal(tmp_path, command, ["y", "y"])
    assert code == 0 and "HTTP Error 502" in shown, shown
    code, shown = at_a_terminal(tmp_path, command, ["n"])
    assert code == 8 and "Not run." in shown


def test_a_host_is_asked_about_once_whatever_its_port(tmp_path: Path) -> None:
    notebook(tmp_path, ASKS)
    code, shown = at_a_terminal(tmp_path, RUN, ["y", "y"])
    assert code == 0 and shown.count("wants host asked.invalid") == 1, shown
    receipt = json.loads((tmp_path / "nb-run" / "receipt.json").read_text())
    assert any(event["detail"] == "a person allowed it while it ran" for event in receipt["events"])


def test_what_was_typed_before_the_question_does_not_answer_it(tmp_path: Path) -> None:
    notebook(tmp_path, ASKS)
    code, shown = at_a_terminal(tmp_path, RUN, ["y", "n"], early="y\ny\n")
    assert code == 0 and "HTTP Error 403" in shown and "HTTP Error 502" not in shown, shown


def test_ctrl_c_at_a_question_ends_the_run_and_leaves_the_receipt(tmp_path: Path) -> None:
    notebook(tmp_path, ASKS)
    code, shown = at_a_terminal(tmp_path, RUN, ["y", CTRL_C])
    assert code == 130, shown
    receipt = json.loads((tmp_path / "nb-run" / "receipt.json").read_text())
    assert receipt["ended"] == "interrupted"
    assert [cell["status"] for cell in receipt["cells"]] == ["ok", "interrupted"]


def test_output_waits_while_a_question_is_open(tmp_path: Path) -> None:
    chatter = (
        "import threading, time\n"
        "def talk():\n    for n in range(20): print('Save the picture? (y/N)', n); time.sleep(0.05)\n"
        "t = threading.Thread(target=talk); t.start()\n"
    )
    notebook(tmp_path, [ASKS[0], chatter + ASKS[1].replace("print('typing'); time.sleep(1.5)\n", "") + "\nt.join()"])
    (tmp_path / "p.toml").write_text("")
    code, shown = at_a_terminal(tmp_path, [*RUN, "--permissions", "p.toml"], ["slow n"], pause=1.5)
    assert code == 0, shown
    question = shown.index("Allow it for this run?")
    assert "│" not in shown[question : shown.index("slow n", question)], shown


def test_a_secret_is_asked_about_while_a_cell_waits(tmp_path: Path) -> None:
    cell = (
        "from google.colab import userdata\nname = ''.join(reversed('TERCES_YM'))\n"
        "for n in range(2):\n    try: print('length', len(userdata.get(name)))\n"
        "    except Exception as e: print('refused', e)"
    )
    notebook(tmp_path, ["import os\nos.popen('true').read()", cell])
    code, shown = at_a_terminal(tmp_path, RUN, ["y", "y", "y"], MY_SECRET="hunter2222")
    assert code == 0 and "length 10" in shown, shown
    assert shown.count("wants secret MY_SECRET") + shown.count("secret:MY_SECRET") == 1, shown
    receipt = (tmp_path / "nb-run" / "receipt.json").read_text()
    assert json.loads(receipt)["secrets_used"] == ["MY_SECRET"] and "hunter2222" not in receipt


def test_the_proposal_is_ten_lines_and_holds_limits_and_files(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("1,2\n")
    cells = [f"import urllib.request as u\nu.urlopen('https://h{n}.example.org/x')" for n in range(9)]
    notebook(tmp_path, [*cells, "open('data.csv')", "from google.colab import userdata\nuserdata.get('HF_TOKEN')"])
    code, shown = at_a_terminal(tmp_path, RUN, ["n"])
    lines = shown.strip().splitlines()
    assert code == 8 and len(lines) <= 11, shown  # "Not run." comes after the question
    assert "memory" in shown and "processes" in shown and "disk" in shown and "read:data.csv" in shown
    assert "nb-run/outputs" in shown and "careful" in shown


def test_a_file_beside_the_notebook_is_named_when_it_is_missed(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("1,2\n")
    notebook(tmp_path, ["print(open('data.csv').read())"])
    done = unattended(tmp_path, "run", "nb.ipynb", "--yes")
    assert done.returncode == 12 and "--allow read:data.csv does" in done.stderr, done.stderr
    done = unattended(tmp_path, "run", "nb.ipynb", "--yes", "--allow", "read:data.csv", "--check")
    assert done.returncode == 0 and "│ 1,2" in done.stderr, done.stderr


def test_everyday_commands_and_libraries_are_as_planned(tmp_path: Path) -> None:
    notebook(tmp_path, ["!ls | head -1", "import psutil, os, platform\nprint(os.cpu_count(), platform.processor())"])
    done = unattended(tmp_path, "run", "nb.ipynb", "--yes", "--check")
    assert done.returncode == 0, done.stderr + done.stdout


def test_a_cell_reads_lines_from_the_terminal_and_secrets_are_not_shown(tmp_path: Path) -> None:
    reads = "import getpass\nname = input('> Allow it? [y/n]\\nname: ')\nword = getpass.getpass()"
    notebook(tmp_path, [f"{reads}\nprint(name[::-1], len(word))"], "asks.ipynb")
    code, shown = at_a_terminal(tmp_path, [*RUN[:-1], "asks.ipynb", "--yes"], ["Ada", "swordfish"])
    assert code == 0, shown
    assert "│ > Allow it? [y/n]" in shown and "│ name: " in shown  # the prompt is the notebook's, and looks it
    assert "│ adA 9" in shown and "swordfish" not in shown
    code, shown = at_a_terminal(tmp_path, [*RUN[:-1], "asks.ipynb", "--yes"], [CTRL_C])
    assert code == 130
    assert "StdinNotImplementedError" in unattended(tmp_path, "run", "asks.ipynb", "--yes").stdout


def test_the_terminal_is_not_the_notebooks(tmp_path: Path) -> None:
    notebook(tmp_path, ["print('\\x1b[2J\\x1b]0;title\\x07plain\\x1b[31mred\\u202e')"])
    done = unattended(tmp_path, "run", "nb.ipynb", "--yes")
    assert "│ plainred" in done.stderr and "\x1b" not in done.stderr and "\u202e" not in done.stderr


def commands_of(document: str) -> list[str]:
    text = (ROOT / "docs" / document).read_text()
    return [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines() if line]


def test_the_commands_of_the_document_work(tmp_path: Path) -> None:
    notebook(tmp_path)
    (tmp_path / "table.csv").write_text("1,2\n")
    for line in commands_of("run.md"):
        words = shlex.split(line)
        if words[0] == "allmend":
            words = [sys.executable, "-m", *words]
        elif words[0] == "python":
            words = [sys.executable, *words[1:]]
        code, shown = at_a_terminal(tmp_path, words, ["y"])
        assert code == 0, (line, shown)
    assert (tmp_path / "nb-run" / "outputs" / "outputs" / "out.txt").exists()
    assert (tmp_path / "nb.permissions.toml").exists()
    assert (tmp_path / "kernels" / "allmend" / "kernel.json").exists()
