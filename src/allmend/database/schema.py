"""Every table of allmend. A change here needs a migration in `migrations/versions` and a new `HEAD`."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

HEAD = "0003"
"""The newest migration; a database with this version needs no Alembic."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _of_run() -> Column[str]:
    return Column("run_id", String(80), ForeignKey("runs.id", ondelete="CASCADE"), nullable=False)


runs = Table(
    "runs",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("verb", String(40), nullable=False),
    Column("subject", Text),
    Column("state", String(16), nullable=False),
    Column("started", Double, nullable=False),  # seconds since 1970, UTC
    Column("ended", Double),
    Column("settings", Text, nullable=False),  # JSON
    Column("environment", Text, nullable=False),  # JSON
    Column("folder", Text, nullable=False),
    Column("error", Text),
    Index(None, "started"),
    Index(None, "verb", "started"),
)

run_inputs = Table(
    "run_inputs",
    metadata,
    Column("id", Integer, primary_key=True),
    _of_run(),
    Column("name", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("sha256", String(64)),
    Index(None, "run_id"),
)

run_choices = Table(
    "run_choices",
    metadata,
    Column("id", Integer, primary_key=True),
    _of_run(),
    Column("name", Text, nullable=False),
    Column("value", Text, nullable=False),  # JSON
    Column("reason", Text, nullable=False),
    Index(None, "run_id"),
)

run_metrics = Table(
    "run_metrics",
    metadata,
    Column("id", Integer, primary_key=True),
    _of_run(),
    Column("name", Text, nullable=False),
    Column("step", Integer, nullable=False),
    Column("value", Double),  # NULL is not a number
    Column("time", Double, nullable=False),
    Index(None, "run_id", "name", "step"),
)

run_outputs = Table(
    "run_outputs",
    metadata,
    Column("id", Integer, primary_key=True),
    _of_run(),
    Column("name", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("sha256", String(64)),
    Index(None, "run_id"),
)

# The hub's store. Names are in the protocol's text form; `touched` holds what is in use but not yet committed.

hub_xorbs = Table(
    "hub_xorbs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("object", String(120), nullable=False),  # where its chunks lie
    Column("packed", BigInteger, nullable=False),
    Column("unpacked", BigInteger, nullable=False),
    Column("chunks", LargeBinary, nullable=False),  # `hub.store.xorbs.RECORD` each
    Column("touched", Double, nullable=False),
    Index(None, "touched"),
)

hub_chunks = Table(
    "hub_chunks",
    metadata,
    Column("hash", LargeBinary(32), primary_key=True),
    Column("xorb_id", Integer, ForeignKey("hub_xorbs.id", ondelete="CASCADE"), nullable=False),
    Column("place", Integer, nullable=False),
    Index(None, "xorb_id"),
)

hub_files = Table(
    "hub_files",
    metadata,
    Column("xet", String(64), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("terms", LargeBinary, nullable=False),  # `hub.store.tables.TERM` each
    Column("touched", Double, nullable=False),
    Index(None, "sha256"),
    Index(None, "touched"),
)

hub_file_xorbs = Table(
    "hub_file_xorbs",
    metadata,
    Column("xet", String(64), ForeignKey("hub_files.xet", ondelete="CASCADE"), primary_key=True),
    Column("xorb_id", Integer, ForeignKey("hub_xorbs.id"), primary_key=True),
    Index(None, "xorb_id"),
)
