"""The engine: connected, at the schema's version, and safe for many processes at once.

SQLite runs in WAL mode with a busy timeout, so readers never wait and writers queue. The first process to meet
an old or missing database brings it up to date under a lock; the others wait for it."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)

from allmend.database.place import address
from allmend.database.schema import HEAD
from allmend.errors import InputError, Unavailable, UsageError
from allmend.redaction import redact

BUSY_SECONDS = 60.0
"""How long a writer waits for others before it gives up."""

_JOURNAL_BYTES = 64 << 20
_ADVISORY_LOCK = 0x616C6C6D656E64  # "allmend": taken while a PostgreSQL schema is brought up to date
_engines: dict[str, Engine] = {}
_guard = threading.Lock()


def engine(*, create: bool = True) -> Engine | None:
    """The engine for `place.address()`, its schema up to date; one a process.

    With `create=False`, None when a SQLite file is not there yet, and nothing is written.
    Raises `UsageError` for a wrong address, `Unavailable` when the database cannot be reached or written,
    `InputError` when a file is no database or newer than this allmend.
    """
    text = address()
    with _guard:
        if text not in _engines:
            url = _url(text)
            file = _file(url)
            if file is not None and not create and not file.exists():
                return None
            with in_plain_words():
                _engines[text] = _opened(url, file)
        return _engines[text]


@contextmanager
def writing(*, patience: float = BUSY_SECONDS) -> Iterator[Connection]:
    """A connection in a transaction that may write; committed at the end, rolled back on an error.

    Args:
        patience: seconds that it waits for others who write; raises `Unavailable` then.
    """
    ready = engine()
    assert ready is not None
    with (
        in_plain_words(),
        ready.connect().execution_options(allmend_write=True) as connection,
        _waiting(connection, patience),
        connection.begin(),
    ):
        yield connection


@contextmanager
def _waiting(connection: Connection, seconds: float) -> Iterator[None]:
    """Have a connection to SQLite wait no longer than that."""
    raw: Any = connection.connection.dbapi_connection
    if seconds == BUSY_SECONDS or connection.dialect.name != "sqlite":
        yield
        return
    raw.execute(f"PRAGMA busy_timeout={round(1000 * seconds)}")
    try:
        yield
    finally:
        raw.execute(f"PRAGMA busy_timeout={round(1000 * BUSY_SECONDS)}")


class Writer:
    """One connection, kept for many transactions that write, by one thread: half the price of `writing`."""

    def __init__(self) -> None:
        self._kept: Connection | None = None

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """As `writing`. After an error the next transaction connects anew."""
        with in_plain_words():
            if self._kept is None:
                ready = engine()
                assert ready is not None
                self._kept = ready.connect().execution_options(allmend_write=True)
            try:
                with self._kept.begin():
                    yield self._kept
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Give the connection back."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()


@contextmanager
def reading() -> Iterator[Connection | None]:
    """A connection to read from; None when there is no database yet."""
    ready = engine(create=False)
    if ready is None:
        yield None
        return
    with in_plain_words(), ready.connect() as connection:
        yield connection


@contextmanager
def in_plain_words() -> Iterator[None]:
    """Turn what a database driver says into an error for a person."""
    try:
        yield
    except DBAPIError as error:
        words = redact(str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else "no reason given")
        where = shown_address()
        if "not a database" in words or "malformed" in words:
            raise InputError(
                f"this is not a database of allmend ({words})",
                where=where,
                hint="Move the file away; a new one is made.",
            ) from error
        hint = "Is the disk full, or the folder not yours to write? ALLMEND_HOME names another."
        if "locked" in words:
            hint = "Another program keeps it locked."
        elif "sqlite" not in where:
            hint = "ALLMEND_DATABASE says which database is used."
        raise Unavailable(f"the database cannot be used: {words}", where=where, hint=hint) from error
    except SQLAlchemyError as error:
        raise Unavailable(f"the database cannot be used: {redact(str(error))}", where=shown_address()) from error


def shown_address() -> str:
    """The address without its password."""
    try:
        return make_url(address()).render_as_string(hide_password=True)
    except ArgumentError:
        return "ALLMEND_DATABASE"


def forget() -> None:
    """Close every engine of this process; the next use opens anew."""
    with _guard:
        for ready in _engines.values():
            ready.dispose()
        _engines.clear()


def _url(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError:
        hint = "Write postgresql://USER@HOST/NAME or sqlite:////FOLDER/FILE."
        raise UsageError("this is not a database address", where="ALLMEND_DATABASE", hint=hint) from None
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        words = f"databases of the kind {url.get_backend_name()!r} are not supported"
        raise UsageError(words, where="ALLMEND_DATABASE", hint="Supported are sqlite and postgresql.")
    return url


def _file(url: URL) -> Path | None:
    if url.get_backend_name() != "sqlite":
        return None
    if not url.database or url.database == ":memory:":
        raise UsageError("a database in memory cannot be shared", where="ALLMEND_DATABASE", hint="Name a file.")
    return Path(url.database).absolute()


def _opened(url: URL, file: Path | None) -> Engine:
    try:
        if file is None:
            ready = create_engine(url, pool_pre_ping=True)
        else:
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise Unavailable(f"the folder cannot be made: {error.strerror}", where=str(file.parent),
                                  hint="ALLMEND_HOME names another folder.") from error  # fmt: skip
            ready = create_engine(url, connect_args={"timeout": BUSY_SECONDS})
            event.listen(ready, "connect", _on_connect)
            event.listen(ready, "begin", _on_begin)
    except (NoSuchModuleError, ImportError) as error:
        raise Unavailable("PostgreSQL needs the psycopg package", hint="pip install 'allmend[postgres]'") from error
    if _version(ready) != HEAD:
        _bring_up_to_date(ready, file)
    return ready


def _on_connect(connection: Any, _record: Any) -> None:
    # Transactions are begun by us (`_on_begin`), not by the driver's guess.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA synchronous=NORMAL")
    # What one long reader made the journal grow to is given back.
    cursor.execute(f"PRAGMA journal_size_limit={_JOURNAL_BYTES}")
    cursor.close()


def _on_begin(connection: Connection) -> None:
    # A transaction that will write takes its place in the queue at once: one that read first and wrote later would
    # fail without waiting when another wrote in between.
    write = connection.get_execution_options().get("allmend_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _version(ready: Engine) -> str | None:
    """The version in the database; None when it has no tables of ours."""
    try:
        with ready.connect() as connection:
            row = connection.exec_driver_sql("SELECT version_num FROM alembic_version").first()
    except (OperationalError, ProgrammingError) as error:
        if "alembic_version" in str(error.orig):
            return None
        raise
    return None if row is None else str(row[0])


def _bring_up_to_date(ready: Engine, file: Path | None) -> None:
    if file is None:
        with ready.connect() as connection, connection.begin():
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
            _migrate(connection)
        return
    with Path(f"{file}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _version(ready) == HEAD:
            return
        # WAL is a property of the file. Switching to it does not wait for others: it is done once, under the lock.
        raw = ready.raw_connection()
        try:
            raw.cursor().execute("PRAGMA journal_mode=WAL")
        finally:
            raw.close()
        with ready.connect().execution_options(allmend_write=True) as connection, connection.begin():
            _migrate(connection)


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", "allmend:database/migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        hint = "Upgrade allmend, or name another database with ALLMEND_DATABASE."
        raise InputError("the database was written by a newer allmend", where=shown_address(), hint=hint) from error


def _after_fork() -> None:
    # A child must not speak on its parent's connections; it opens its own.
    global _guard
    _guard = threading.Lock()
    for ready in _engines.values():
        ready.dispose(close=False)
    _engines.clear()


os.register_at_fork(after_in_child=_after_fork)
