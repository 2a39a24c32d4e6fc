"""Work on untrusted bytes elsewhere: whatever they do there, we go on."""

from __future__ import annotations

import os
import time

import pytest

from allmend.compute.limited import Limited
from allmend.errors import InputError, Unavailable


def work(given: bytes) -> bytes:
    """What the bytes say."""
    if given == b"loop":
        while True:
            time.sleep(1)
    if given == b"swell":
        return bytes(len(bytearray(4 << 30)))
    if given == b"crash":
        os.abort()
    if given == b"much":
        return bytes(1 << 20)
    if given == b"wrong":
        raise ValueError("these bytes are wrong")
    os.write(1, b"noise that is no answer")
    return given[::-1]


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Limited:
    """The function above in a process of its own."""
    from pathlib import Path

    tests = str(Path(__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", f"{tests}/compute{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    made = Limited("test_limited:work", memory=256 << 20, seconds=20, most=1 << 16)
    yield made
    made.close()


def test_answers_come_and_refusals_are_said(limited: Limited) -> None:
    assert limited(b"abc") == b"cba"
    with pytest.raises(InputError, match="these bytes are wrong"):
        limited(b"wrong")
    assert limited(b"") == b""


@pytest.mark.parametrize(
    ("given", "said"), [(b"crash", "died"), (b"swell", "memory"), (b"much", "more than 65536"), (b"wrong", "wrong")]
)
def test_after_the_worst_the_next_bytes_are_read(limited: Limited, given: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        limited(given)
    assert limited(b"on") == b"no"


def test_what_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch, limited: Limited) -> None:
    assert limited(b"warm") == b"mraw"
    monkeypatch.setattr(limited, "_seconds", 0.5)
    with pytest.raises(InputError, match=r"within 0\.5 s"):
        limited(b"loop")
    monkeypatch.setattr(limited, "_seconds", 20)
    assert limited(b"on") == b"no"


def test_a_function_that_is_not_there_is_said() -> None:
    missing = Limited("allmend.nowhere:work", memory=1 << 28, seconds=20, most=10)
    with pytest.raises(Unavailable):
        missing(b"x")
