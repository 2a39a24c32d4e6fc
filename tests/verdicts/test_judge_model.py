"""A judge over HTTP: what it answers is a number or nothing, and who is asked is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from allmend.data import Row
from allmend.errors import UsageError
from allmend.verdicts.metrics import Fault
from allmend.verdicts.metrics.judge_model import KEY_VARIABLE, JudgeModel, grade_in
from listening import running

Answer = Callable[[dict[str, Any]], tuple[int, str]]


@pytest.fixture
def server() -> Iterator[tuple[str, list[Any], Callable[[Answer], None]]]:
    """(address, what was asked, sets how it answers) of a server that speaks the chat API."""
    asked: list[Any] = []
    behaviour: list[Answer] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, dict(self.headers), body))
            status, text = behaviour[-1](body)
            reply = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with running(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as httpd:
        yield f"http://127.0.0.1:{httpd.server_address[1]}/v1", asked, behaviour.append


def test_each_answer_gets_its_own_grade(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    address, asked, behave = server
    monkeypatch.setenv("OPENAI_API_KEY", "not-for-the-judge")
    monkeypatch.setenv(KEY_VARIABLE, "for-the-judge")
    behave(lambda body: (200, '{"score": 9}' if "right!" in body["messages"][0]["content"] else "3/10"))
    rows = [Row("What?", "so", place=f"r:{n}") for n in range(6)]
    answers = ["right!", "wrong"] * 3
    assert JudgeModel(address, "grader").grades(answers, rows) == [0.9, 0.3] * 3
    path, headers, body = asked[0]
    assert path == "/v1/chat/completions" and body["model"] == "grader" and body["temperature"] == 0
    assert headers["Authorization"] == "Bearer for-the-judge"
    assert "not-for-the-judge" not in json.dumps(asked)
    assert all("so" in entry[2]["messages"][0]["content"] for entry in asked)


def test_no_grade_names_the_row_and_the_others_count(server: Any) -> None:
    address, _, behave = server
    behave(lambda body: (200, "I cannot say") if "odd" in body["messages"][0]["content"] else (200, "7"))
    good, bad = JudgeModel(address, "g").grades(
        ["even", "odd"], [Row("?", "x", place="r:1"), Row("?", "x", place="r:2")]
    )
    assert good == 0.7
    assert isinstance(bad, Fault) and bad.place == "r:2" and "no grade" in bad.reason


def test_a_judge_that_refuses_or_is_not_there_is_a_fault(server: Any) -> None:
    address, asked, behave = server
    behave(lambda body: (401, ""))
    (fault,) = JudgeModel(address, "g").grades(["a"], [Row("?", "x", place="r:1")])
    assert isinstance(fault, Fault) and "401" in fault.reason and len(asked) == 1
    (gone,) = JudgeModel("http://127.0.0.1:1/v1", "g").grades(["a"], [Row("?", "x", place="r:1")])
    assert isinstance(gone, Fault) and "not reached" in gone.reason


@pytest.mark.parametrize(
    ("text", "grade"),
    [('{"score": 10}', 1.0), ('```json\n{"score": 4}\n```', 0.4), ("Grade: 6.5", 0.65), ("8/10", 0.8), ("0", 0.0)],
)
def test_grades_as_judges_write_them(text: str, grade: float) -> None:
    assert grade_in(text) == pytest.approx(grade)


@pytest.mark.parametrize(
    "text", ["", "very good", '{"score": 11}', '{"score": -1}', "answer 7 of 9 was fine", "score: 99"]
)
def test_anything_else_is_no_grade(text: str) -> None:
    with pytest.raises(ValueError, match="no number"):
        grade_in(text)


def test_where_rows_go_is_known() -> None:
    assert JudgeModel("http://localhost:9/v1", "m").is_near
    assert not JudgeModel("https://grader.example/v1", "m").is_near
    with pytest.raises(UsageError):
        JudgeModel("file:///etc/passwd", "m")
