from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Records go into a folder of the test's own, never into the person's."""
    from allmend import database

    place = tmp_path / "home"
    monkeypatch.setenv("ALLMEND_HOME", str(place))
    monkeypatch.delenv("ALLMEND_DATABASE", raising=False)
    yield place
    database.forget()
