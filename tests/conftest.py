"""Settings of all tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as examples

from documented import Reader, commands, furnish, reading

# One thread: tests run beside each other, and tiny matrices are faster without a crew.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Stock clients wait ten seconds, which a busy machine can take to answer.
os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "120")
os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", "120")

# How long an example takes says how busy the machine is. The examples are the same each time, so that a change is told
# by its own test and not by luck; ALLMEND_TEST_RANDOM=1 draws others.
examples.register_profile(
    "allmend",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=not os.environ.get("ALLMEND_TEST_RANDOM"),
    database=None,
)
examples.load_profile("allmend")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests come first: where several run beside each other, none is left over at the end."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="session")
def model_cache() -> Path:
    """A home with the default model and data, fetched and converted once a machine."""
    named = os.environ.get("ALLMEND_TEST_HOME")
    cache = Path(named) if named else Path.home() / ".cache" / "allmend-tests"
    before = os.environ.get("ALLMEND_HOME")
    os.environ["ALLMEND_HOME"] = str(cache)
    try:
        from allmend.models import resolve
        from allmend.models.gguf import converted
        from allmend.models.rated_rows import examples_file

        converted(resolve("gemma-3-270m"))
        examples_file("movie-reviews")
    finally:
        if before is None:
            del os.environ["ALLMEND_HOME"]
        else:
            os.environ["ALLMEND_HOME"] = before
    return cache


@pytest.fixture(scope="session")
def shared_home(model_cache: Path) -> Callable[[Path], dict[str, str]]:
    """Makes a home of its own that shares the fetched model and data; gives the environment that names it."""

    def make(folder: Path) -> dict[str, str]:
        folder.mkdir(parents=True)
        for name in ("models", "data", "converted", "cache"):
            (folder / name).symlink_to(model_cache / name)
        return {"ALLMEND_HOME": str(folder)}

    return make


@pytest.fixture(scope="session")
def small_models(model_cache: Path) -> dict[str, object]:
    """The catalogue's models beside text, fetched once a machine, by name."""
    before = os.environ.get("ALLMEND_HOME")
    os.environ["ALLMEND_HOME"] = str(model_cache)
    try:
        from allmend.models.resolve import resolve

        return {name: resolve(name) for name in ("all-minilm-l6-v2", "whisper-base", "piper-joe")}
    finally:
        if before is None:
            del os.environ["ALLMEND_HOME"]
        else:
            os.environ["ALLMEND_HOME"] = before


@pytest.fixture(scope="session")
def reader(tmp_path_factory: pytest.TempPathFactory, shared_home: Callable[[Path], dict[str, str]]) -> Reader:
    """A reader of the pages who has tuned the default model as docs/tune.md says: one real tune for all tests."""
    folder = tmp_path_factory.mktemp("reader")
    furnish(folder)
    made = Reader(folder, reading(shared_home(folder / "home")))
    made.try_line(next(line for line in commands("docs/tune.md") if line.startswith("allmend tune ")))
    return made


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder and a database of the test's own, never the person's.

    `ALLMEND_TEST_POSTGRES=postgresql://…` runs the rooms that use it on that (emptied!) database instead of SQLite.
    """
    from allmend import database
    from allmend.access import keys

    place = tmp_path / "home"
    monkeypatch.setenv("ALLMEND_HOME", str(place))
    monkeypatch.delenv("ALLMEND_DATABASE", raising=False)
    if server := os.environ.get("ALLMEND_TEST_POSTGRES"):
        monkeypatch.setenv("ALLMEND_DATABASE", server)
        with database.writing() as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE")
            connection.exec_driver_sql("CREATE SCHEMA public")
        database.forget()
    keys.forget()
    yield place
    keys.forget()
    database.forget()
