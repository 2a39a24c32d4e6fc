"""Where packages come from, as pip reads it: files, then variables."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from allmend.errors import Unavailable
from allmend.models.index import PackageIndex, pip_settings


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Nothing of this machine's own settings."""
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setattr("sys.prefix", str(tmp_path / "venv"))
    return {"XDG_CONFIG_DIRS": str(tmp_path / "etc"), "XDG_CONFIG_HOME": str(tmp_path / "home")}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_variables_win_over_files_and_later_files_over_earlier(tmp_path: Path, folders: dict[str, str]) -> None:
    write(tmp_path / "nobody/.pip/pip.conf", "[global]\nindex-url = http://a/\ntimeout = 5\ncert = /a.pem\n")
    assert pip_settings(folders).index_urls[0] == "http://a/"
    write(tmp_path / "home/pip/pip.conf", "[global]\nindex_url = http://b/\nfind-links =\n    /one\n    /two\n")
    found = pip_settings(folders)
    assert found.index_urls[0] == "http://b/" and found.find_links == ("/one", "/two") and found.timeout == 5
    write(tmp_path / "venv/pip.conf", "[global]\nindex-url = http://c/\n[install]\ntrusted-host = x y\n")
    assert pip_settings(folders).index_urls[0] == "http://c/" and pip_settings(folders).trusted_hosts == ("x", "y")
    write(tmp_path / "named.conf", "[global]\nindex-url = http://d/\n")
    named = {**folders, "PIP_CONFIG_FILE": str(tmp_path / "named.conf")}
    assert pip_settings(named).index_urls[0] == "http://d/"
    found = pip_settings({**named, "PIP_INDEX_URL": "http://e/", "PIP_EXTRA_INDEX_URL": "http://f/ http://g/"})
    assert found.index_urls == ("http://e/", "http://f/", "http://g/") and found.cert == "/a.pem"
    # An empty variable is as none.
    assert pip_settings({**named, "PIP_INDEX_URL": ""}).index_urls[0] == "http://d/"


def test_the_null_file_means_no_files(tmp_path: Path, folders: dict[str, str]) -> None:
    write(tmp_path / "home/pip/pip.conf", "[global]\nindex-url = http://b/\n")
    assert "http://b/" not in pip_settings({**folders, "PIP_CONFIG_FILE": os.devnull}).index_urls


@pytest.mark.parametrize("yes", ["1", "true", "True", "yes", "y", "t", "on"])
def test_no_index_leaves_the_links_alone(folders: dict[str, str], yes: str) -> None:
    given = {**folders, "PIP_NO_INDEX": yes, "PIP_INDEX_URL": "http://e/", "PIP_FIND_LINKS": "/w"}
    assert pip_settings(given).index_urls == () and pip_settings(given).find_links == ("/w",)
    assert pip_settings({**given, "PIP_NO_INDEX": "0"}).index_urls[0] == "http://e/"


def test_damaged_files_are_passed_over_and_bad_values_told(tmp_path: Path, folders: dict[str, str]) -> None:
    write(tmp_path / "nobody/.pip/pip.conf", "[global]\nindex-url = http://a/\n")
    write(tmp_path / "home/pip/pip.conf", "no section\n\xff")
    assert pip_settings(folders).index_urls[0] == "http://a/"
    with pytest.raises(Unavailable, match="timeout"):
        pip_settings({**folders, "PIP_TIMEOUT": "soon"})


def test_nowhere_to_look_is_told(folders: dict[str, str]) -> None:
    with pytest.raises(Unavailable, match="no package index"):
        PackageIndex(pip_settings({**folders, "PIP_NO_INDEX": "1"}))
    with pytest.raises(Unavailable, match="certificate"):
        PackageIndex(pip_settings({**folders, "PIP_CERT": "/nowhere.pem", "PIP_INDEX_URL": "http://x/"}))
