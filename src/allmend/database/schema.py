"""Every table of allmend. A change here needs a migration in `migrations/versions` and a new `HEAD`."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
)

# The hub's tables stand in a file of their own and register with the same metadata.
from allmend.database import hub_repositories as _hub_repositories  # noqa: F401
from allmend.database.metadata import metadata as metadata

HEAD = "0005"
"""The newest migration; a database with this version needs no Alembic."""


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

accounts = Table(
    "accounts",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(96), nullable=False),
    Column("folded", String(96), nullable=False),  # in small letters
    Column("kind", String(16), nullable=False),  # person, organisation
    Column("display", Text),
    Column("email", Text),
    Column("administrator", Boolean, nullable=False),
    Column("created", Double, nullable=False),
    Column("disabled", Double),
    Index(None, "folded", unique=True),
)

memberships = Table(
    "memberships",
    metadata,
    Column("organisation_id", String(32), ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    Column("person_id", String(32), ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    Column("role", String(8), nullable=False),  # read, write, admin
    Index(None, "person_id"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(16), primary_key=True),  # public
    Column("hash", String(64), nullable=False),  # SHA-256 of the whole key
    Column("name", String(200), nullable=False),
    Column("account_id", String(32), ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False),
    Column("scopes", Text, nullable=False),  # JSON
    Column("limits", Text, nullable=False),  # JSON
    Column("created", Double, nullable=False),
    Column("created_by", String(96), nullable=False),
    Column("expires", Double),
    Column("revoked", Double),
    Column("last_used", Double),
    Index(None, "account_id"),
)

key_users = Table(  # users behind a key, where they have more than the key gives each
    "key_users",
    metadata,
    Column("key_id", String(16), ForeignKey("api_keys.id", ondelete="CASCADE"), primary_key=True),
    Column("user", String(200), primary_key=True),
    Column("adapter", Text),
    Column("limits", Text, nullable=False),  # JSON
)

audit = Table(  # append-only: triggers refuse the rest
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("time", Double, nullable=False),
    Column("actor", String(96), nullable=False),
    Column("key_id", String(16)),
    Column("action", String(80), nullable=False),
    Column("target", Text, nullable=False),
    Column("details", Text, nullable=False),  # JSON
    Index(None, "time"),
    Index(None, "actor", "time"),
)

usage = Table(  # a row for every answer: written before it begins, settled before its end is sent
    "usage",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("server", String(80), nullable=False),  # whose answer it is, while it is open
    Column("state", String(12), nullable=False),  # open, settled, cancelled, lost
    Column("began", Double, nullable=False),
    Column("ended", Double),
    Column("day", String(10), nullable=False),  # UTC
    Column("key_id", String(16)),
    Column("account", String(96)),
    Column("user", String(200)),
    Column("route", String(40), nullable=False),
    Column("model", Text, nullable=False),
    Column("adapter", Text),
    Column("prompt", Integer, nullable=False),
    Column("cached", Integer, nullable=False),
    Column("completion", Integer, nullable=False),
    Column("unit", String(12), nullable=False, server_default="tokens"),  # what they count: characters, seconds
    Column("cost", BigInteger, nullable=False),  # billionths of the currency
    Column("currency", String(3)),
    Index(None, "day", "account"),
    Index(None, "key_id", "day"),
    Index(None, "state", "server"),
)

prices = Table(
    "prices",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("model", Text, nullable=False),
    Column("since", Double, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("prompt", Text, nullable=False),  # decimal, for a million tokens
    Column("cached", Text, nullable=False),
    Column("completion", Text, nullable=False),
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
