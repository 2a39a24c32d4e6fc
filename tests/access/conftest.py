from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A folder and a database of the test's own.

    `ALLMEND_TEST_POSTGRES=postgresql://…` runs the room's tests on that (emptied!) database instead of SQLite.
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
