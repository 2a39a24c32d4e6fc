"""Tables of the hub's repositories: what they are, their commits, references, pull requests and who may read them.

Trees, pages of trees and commits are named by their content and shared between repositories; which commits belong
to a repository is written apart, so that a commit's name alone opens nothing.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, ForeignKey, Index, Integer, LargeBinary, String, Table, Text

from allmend.database.metadata import metadata

_SHA1 = String(40)
_SHA256 = String(64)


def _repository(primary_key: bool = False) -> Column[int]:
    key = ForeignKey("hub_repositories.id", ondelete="CASCADE")
    return Column("repository_id", Integer, key, nullable=False, primary_key=primary_key)


hub_repositories = Table(
    "hub_repositories",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("owner", String(96), nullable=False),
    Column("name", String(96), nullable=False),
    Column("key", String(240), nullable=False, unique=True),  # kind/owner/name in lower case
    Column("private", Boolean, nullable=False),
    Column("gated", String(8), nullable=False),  # empty, auto or manual
    Column("created", Double, nullable=False),  # seconds since 1970, UTC
    Column("updated", Double, nullable=False),
    Column("creator", String(96), nullable=False),
    Column("parent_id", Integer),  # what it was forked from
    Column("parent_commit", _SHA1),
    Column("mirror", Text),  # JSON: where it is pulled from
    Column("sdk", String(32)),
    Column("card", Text, nullable=False),  # JSON: front matter of README.md on main
    Column("facts", Text, nullable=False),  # JSON: library, task, sizes, read off main's files
    Column("downloads", BigInteger, nullable=False),
    Column("numbers", Integer, nullable=False),  # the last pull request's number
    Index(None, "kind", "updated"),
    Index(None, "owner"),
)

hub_repository_tags = Table(
    "hub_repository_tags",
    metadata,
    _repository(True),
    Column("tag", String(255), primary_key=True),
    Index(None, "tag"),
)

hub_moved = Table(
    "hub_moved",
    metadata,
    Column("key", String(240), primary_key=True),
    _repository(),
)

hub_trees = Table(
    "hub_trees",
    metadata,
    Column("id", _SHA1, primary_key=True),
    Column("entries", Integer, nullable=False),
    Column("files", Integer, nullable=False),  # with everything below
    Column("bytes", BigInteger, nullable=False),
    Column("pages", Text, nullable=False),  # JSON: [[first entry's key, page], ...]
)

hub_tree_pages = Table(
    "hub_tree_pages",
    metadata,
    Column("id", _SHA1, primary_key=True),
    Column("body", LargeBinary, nullable=False),  # compressed JSON
)

hub_commits = Table(
    "hub_commits",
    metadata,
    Column("id", _SHA1, primary_key=True),
    Column("tree_id", _SHA1, nullable=False),
    Column("parents", Text, nullable=False),  # JSON
    Column("author", String(96), nullable=False),
    Column("title", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
)

hub_repository_commits = Table(
    "hub_repository_commits",
    metadata,
    _repository(True),
    Column("commit_id", _SHA1, primary_key=True),
)

hub_refs = Table(
    "hub_refs",
    metadata,
    _repository(True),
    Column("name", String(255), primary_key=True),  # refs/heads/main, refs/tags/v1, refs/pr/1
    Column("commit_id", _SHA1, nullable=False),
    Column("message", Text),
    Column("updated", Double, nullable=False),
)

hub_owned = Table(
    "hub_owned",
    metadata,
    _repository(True),
    Column("sha256", _SHA256, primary_key=True),
    Column("xet", _SHA256, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created", Double, nullable=False),
)

hub_discussions = Table(
    "hub_discussions",
    metadata,
    _repository(True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("title", Text, nullable=False),
    Column("author", String(96), nullable=False),
    Column("status", String(16), nullable=False),  # draft, open, closed, merged
    Column("pull", Boolean, nullable=False),
    Column("base", String(255)),
    Column("merged_commit", _SHA1),
    Column("created", Double, nullable=False),
)

hub_discussion_events = Table(
    "hub_discussion_events",
    metadata,
    Column("id", Integer, primary_key=True),
    _repository(),
    Column("number", Integer, nullable=False),
    Column("kind", String(24), nullable=False),
    Column("author", String(96), nullable=False),
    Column("created", Double, nullable=False),
    Column("body", Text, nullable=False),  # JSON
    Index(None, "repository_id", "number"),
)

hub_access_requests = Table(
    "hub_access_requests",
    metadata,
    _repository(True),
    Column("person", String(96), primary_key=True),
    Column("status", String(16), nullable=False),  # pending, accepted, rejected
    Column("created", Double, nullable=False),
    Column("fields", Text, nullable=False),  # JSON
)

hub_inspections = Table(
    "hub_inspections",
    metadata,
    Column("tree_id", _SHA1, primary_key=True),
    Column("created", Double, nullable=False),
    Column("body", Text, nullable=False),  # JSON
)

hub_settings = Table(
    "hub_settings",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
