"""`allmend serve` and `allmend chat` as a person runs them: in a process of their own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

import tiny

SECONDS = 90


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model's folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny.model("llama").save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter's folder, as PEFT writes it."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("adapters") / "one"
    get_peft_model(tiny.model("llama"), LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(folder)
    return folder


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "ALLMEND_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}


def run(tmp_path: Path, *words: str, said: str | None = None) -> Any:
    return subprocess.run(
        [sys.executable, "-m", "allmend", *words],
        input=said,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=environment(tmp_path),
        check=False,
    )


@contextmanager
def serving(tmp_path: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """A server in a process of its own; (process, address, all that it printed until it was ready)."""
    process = subprocess.Popen(
        [sys.executable, "-m", "allmend", "serve", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(tmp_path),
    )
    try:
        assert process.stdout is not None
        printed = ""
        while "python -c" not in printed:
            line = process.stdout.readline()
            assert line, f"it ended: {printed}"
            printed += line
        found = re.search(r"http://127\.0\.0\.1:\d+", printed)
        assert found
        yield process, found[0], printed
    finally:
        process.kill()
        process.wait(60)
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_and_ends_with_130(tmp_path: Path, model: Path, adapter: Path, number: int) -> None:
    words = (str(model), "--adapter", f"mine={adapter}", "--port", "0", "--memory", "16M")
    with serving(tmp_path, *words) as (process, url, printed):
        assert "mine" in printed and "curl" in printed and "allmend-plain/1" in printed
        with OpenAI(base_url=f"{url}/v1", api_key="none") as client:
            assert [card.id for card in client.models.list()][-1] == "mine"
        process.send_signal(number)
        assert process.wait(120) == 130


def test_answers_under_way_have_their_time(tmp_path: Path, model: Path) -> None:
    with serving(tmp_path, str(model), "--port", "0", "--memory", "16M") as (process, url, _):
        body = {"model": str(model), "prompt": "abc", "max_tokens": 300, "stream": True, "ignore_eos": True}
        with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=120) as answer:
            lines = answer.iter_lines()
            next(lines)
            process.send_signal(signal.SIGINT)
            assert [line for line in lines if line][-1] == "data: [DONE]"
        assert process.wait(120) == 130


@pytest.mark.parametrize("key", [None, "s3cret"])
def test_the_printed_lines_work(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, key: str | None) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if key:
        monkeypatch.setenv("ALLMEND_API_KEY", key)
    with serving(tmp_path, str(model), "--port", "0", "--memory", "16M", "--answer", "4") as (_, _, printed):
        curl, python = printed.partition("Try it:\n")[2].strip().splitlines()
        asked = [
            subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120) for line in (curl, python)
        ]
    assert '"chat.completion"' in asked[0].stdout and "s3cret" not in printed
    assert (asked[1].returncode, asked[1].stderr) == (0, "")


def test_a_port_in_use_exits_with_9(tmp_path: Path, model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        answer = run(tmp_path, "serve", str(model), "--port", str(taken.getsockname()[1]))
    assert answer.returncode == 9
    assert "in use" in answer.stderr and "--port 0" in answer.stderr and "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--host", "0.0.0.0"), 8),
        (("--adapter", "nonsense"), 2),
        (("--adapter", "mine=./nowhere"), 5),
        (("--port", "99999"), 2),
    ],
)
def test_what_is_wrong_is_told_with_its_code(tmp_path: Path, model: Path, words: tuple[str, ...], code: int) -> None:
    answer = run(tmp_path, "serve", str(model), *words)
    assert answer.returncode == code, answer.stderr
    assert answer.stderr.startswith("error: ") and "Traceback" not in answer.stderr


def test_help_needs_no_tensors(tmp_path: Path) -> None:
    code = (
        "import sys; from allmend.cli import run_command as run\n"
        "for verb in ('serve', 'chat'): run([verb, '--help'])\n"
        "heavy = {'torch', 'transformers', 'fastapi', 'uvicorn'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120, env=environment(tmp_path)
    )
    assert answer.stderr == "[]\n" and "Usage: allmend chat" in answer.stdout


def test_chat_through_a_pipe_answers_each_line_base_beside_tuned(tmp_path: Path, model: Path, adapter: Path) -> None:
    words = ("chat", str(model), "--adapter", f"mine={adapter}", "--max-tokens", "8", "--temperature", "0")
    answer = run(tmp_path, *words, said="Hello\n\nAgain\n/exit\nnever said\n")
    assert answer.returncode == 0, answer.stderr
    spoken = [line for line in answer.stdout.splitlines() if line.startswith((f"{model}: ", "mine: "))]
    # Two lines were said, and two answer each.
    assert len(spoken) == 4
    assert "allmend-plain/1" in answer.stderr


def test_a_line_too_long_for_the_context_decides_the_exit_code_of_a_pipe(tmp_path: Path, model: Path) -> None:
    answer = run(tmp_path, "chat", str(model), "--max-tokens", "4", said="x" * 3000 + "\nHello\n")
    assert answer.returncode == 7
    assert "tokens" in answer.stderr and "Traceback" not in answer.stderr
