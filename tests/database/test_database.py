from __future__ import annotations

import os
import sqlite3
import subprocess
import sys

import pytest

from allmend import database
from allmend.errors import InputError, Unavailable, UsageError
from allmend.home import root


def python(script, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, **environment}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_the_place_follows_the_environment(monkeypatch, tmp_path):
    assert root() == tmp_path / "home"
    monkeypatch.delenv("ALLMEND_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert root() == tmp_path / "xdg" / "allmend"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert root() == tmp_path / ".local" / "share" / "allmend"
    assert database.address() == f"sqlite:///{tmp_path}/.local/share/allmend/allmend.sqlite"


def test_reading_makes_nothing(home):
    with database.reading() as connection:
        assert connection is None
    assert not home.exists()


def test_sqlite_is_set_up_for_many_processes(home):
    with database.writing() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() >= 10_000


def test_the_migrations_make_the_schema():
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from allmend.database.schema import metadata

    with database.writing() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_chain_ends_at_head_and_goes_down_again():
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from sqlalchemy import inspect

    from allmend.database.schema import HEAD

    config = Config()
    config.set_main_option("script_location", "allmend:database/migrations")
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]
    with database.writing() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        assert inspect(connection).get_table_names() == ["alembic_version"]


def test_alembic_is_imported_only_when_the_version_differs():
    script = (
        "import sys\nfrom allmend import database\nassert 'sqlalchemy' not in sys.modules\n"
        "with database.writing(): pass\nprint('alembic' in sys.modules)"
    )
    assert python(script).communicate()[0] == "True\n"
    assert python(script).communicate()[0] == "False\n"


def test_processes_that_make_the_database_at_once_all_succeed():
    script = (
        "import sys\nfrom allmend import database\nimport allmend.database.engine\nsys.stdin.read()\n"
        "with database.writing() as c:\n"
        "    c.exec_driver_sql(\"INSERT INTO runs VALUES (?, 'v', NULL, 'done', 0, 0, '{}', '{}', '', NULL)\", "
        "(sys.argv[1],))"
    )
    workers = [
        subprocess.Popen([sys.executable, "-c", script, str(number)], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for number in range(6)
    ]
    for worker in workers:
        worker.stdin.close()
    for worker in workers:
        words = worker.stderr.read().decode()
        assert worker.wait() == 0, words
        worker.stderr.close()
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM runs").scalar() == 6


def test_a_forked_child_opens_its_own_connection():
    with database.writing() as connection:
        connection.exec_driver_sql("SELECT 1")
    child = os.fork()
    if child == 0:
        try:
            with database.writing() as connection:
                connection.exec_driver_sql(
                    "INSERT INTO runs VALUES ('child', 'v', NULL, 'done', 0, 0, '{}', '{}', '', NULL)"
                )
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT id FROM runs").scalar() == "child"


def test_an_error_takes_the_whole_transaction_back():
    insert = "INSERT INTO runs VALUES ('a', 'v', NULL, 'done', 0, 0, '{}', '{}', '', NULL)"
    with pytest.raises(RuntimeError), database.writing() as connection:
        connection.exec_driver_sql(insert)
        raise RuntimeError
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM runs").scalar() == 0


def test_what_is_no_database_is_told(home):
    home.mkdir()
    (home / "allmend.sqlite").write_bytes(b"this is a letter to my aunt\n" * 100)
    with pytest.raises(InputError, match="not a database"), database.writing():
        pass


def test_a_newer_database_is_told(home):
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    database.forget()
    with pytest.raises(InputError, match="newer allmend"), database.writing():
        pass
    assert sqlite3.connect(home / "allmend.sqlite").execute("SELECT count(*) FROM runs").fetchone() == (0,)


def test_a_place_that_cannot_be_written_is_told(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ALLMEND_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(Unavailable) as caught, database.writing():
        pass
    assert "ALLMEND_HOME" in caught.value.hint


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        ("nonsense", UsageError, "not a database address"),
        ("mysql://host/name", UsageError, "'mysql'"),
        ("sqlite://", UsageError, "in memory"),
        ("postgresql://someone:secret@127.0.0.1:1/none", Unavailable, "cannot be used"),
    ],
)
def test_wrong_addresses(monkeypatch, address, error, words):
    monkeypatch.setenv("ALLMEND_DATABASE", address)
    with pytest.raises(error, match=words) as caught, database.writing():
        pass
    assert "secret" not in str(caught.value)
