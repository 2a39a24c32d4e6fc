"""Questions to a person: each once, one at a time, and the time they take counts for no limit."""

from __future__ import annotations

import threading
import time

from allmend.box.egress.policy import Policy
from allmend.box.questions import MOST, Questions
from allmend.errors import Refused


def test_each_is_asked_once_whatever_the_answer() -> None:
    asked: list[str] = []

    def ask(kind: str, what: str) -> bool:
        asked.append(f"{kind} {what}")
        return what == "yes.example"

    questions = Questions(ask)
    assert [questions.allowed("host", name) for name in ("yes.example", "no.example") * 2] == [True, False] * 2
    assert asked == ["host yes.example", "host no.example"]
    assert questions.has_allowed("host", "yes.example") and not questions.has_allowed("host", "no.example")


def test_a_flood_of_questions_ends() -> None:
    asked: list[str] = []
    questions = Questions(lambda kind, what: bool(asked.append(what)))
    for n in range(MOST + 50):
        questions.allowed("host", f"h{n}.example")
    assert len(asked) == MOST


def test_nobody_there_means_no() -> None:
    assert not Questions().possible and not Questions().allowed("host", "a.example")


def test_waiting_is_measured_while_and_after_a_question_is_open() -> None:
    opened, answer = threading.Event(), threading.Event()

    def ask(kind: str, what: str) -> bool:
        opened.set()
        return answer.wait(60)

    questions = Questions(ask)
    before = time.monotonic()
    thread = threading.Thread(target=questions.allowed, args=("host", "a.example"))
    thread.start()
    assert opened.wait(60)
    first = questions.waited()
    time.sleep(0.02)
    assert questions.waited() > first
    answer.set()
    thread.join()
    whole = questions.waited()
    assert first < whole <= time.monotonic() - before
    time.sleep(0.02)
    assert questions.waited() == whole


def test_both_ports_of_the_web_are_one_answer_and_others_are_not() -> None:
    asked: list[str] = []
    policy = Policy([], asking=Questions(lambda kind, what: asked.append(what) is None))
    for port in (80, 443, 8443):
        assert policy.find("a.example", port).asked
    assert asked == ["a.example", "a.example:8443"]


def test_after_a_secret_was_handed_over_nobody_is_asked() -> None:
    policy = Policy(["a.example", "b.example"], asking=Questions(lambda kind, what: True))
    policy.narrow("TOKEN", ["a.example"])
    assert policy.find("a.example", 443).name == "a.example"
    for name in ("b.example", "c.example"):
        try:
            policy.find(name, 443)
        except Refused as error:
            assert "since the secret TOKEN was handed over" in error.message
        else:
            raise AssertionError(name)


def test_a_secret_shuts_the_owners_index_too_unless_it_is_named_for_it() -> None:
    policy = Policy(["a.example", "index.example"], ["index.example:443"])
    assert policy.find("index.example", 443).operator
    policy.narrow("OTHER", ["a.example", "index.example"])
    assert policy.find("index.example", 443).operator and policy.knows("index.example")
    policy.narrow("TOKEN", ["a.example"])
    assert policy.look_up("index.example", 443) is None and not policy.knows("index.example")
    assert policy.still("a.example", 443) and not policy.still("index.example", 443)
