"""The hub's repositories: commits, trees, references, pull requests, requests for access, inspections."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "hub_settings",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_hub_settings")),
    )
    op.create_table(
        "hub_commits",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tree_id", sa.String(length=40), nullable=False),
        sa.Column("parents", sa.Text(), nullable=False),
        sa.Column("author", sa.String(length=96), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hub_commits")),
    )
    op.create_table(
        "hub_inspections",
        sa.Column("tree_id", sa.String(length=40), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tree_id", name=op.f("pk_hub_inspections")),
    )
    op.create_table(
        "hub_repositories",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("owner", sa.String(length=96), nullable=False),
        sa.Column("name", sa.String(length=96), nullable=False),
        sa.Column("key", sa.String(length=240), nullable=False),
        sa.Column("private", sa.Boolean(), nullable=False),
        sa.Column("gated", sa.String(length=8), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.Column("creator", sa.String(length=96), nullable=False),
        sa.Column("parent_id", sa.Integer(), nullable=True),
        sa.Column("parent_commit", sa.String(length=40), nullable=True),
        sa.Column("mirror", sa.Text(), nullable=True),
        sa.Column("sdk", sa.String(length=32), nullable=True),
        sa.Column("card", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("downloads", sa.BigInteger(), nullable=False),
        sa.Column("numbers", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hub_repositories")),
        sa.UniqueConstraint("key", name=op.f("uq_hub_repositories_key")),
    )
    op.create_index(op.f("ix_hub_repositories_kind_updated"), "hub_repositories", ["kind", "updated"], unique=False)
    op.create_index(op.f("ix_hub_repositories_owner"), "hub_repositories", ["owner"], unique=False)
    op.create_table(
        "hub_tree_pages",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hub_tree_pages")),
    )
    op.create_table(
        "hub_trees",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("entries", sa.Integer(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("pages", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hub_trees")),
    )
    op.create_table(
        "hub_access_requests",
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("person", sa.String(length=96), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["hub_repositories.id"],
            name=op.f("fk_hub_access_requests_repository_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("repository_id", "person", name=op.f("pk_hub_access_requests")),
    )
    op.create_table(
        "hub_discussion_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("author", sa.String(length=96), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["hub_repositories.id"],
            name=op.f("fk_hub_discussion_events_repository_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hub_discussion_events")),
    )
    op.create_index(
        op.f("ix_hub_discussion_events_repository_id_number"),
        "hub_discussion_events",
        ["repository_id", "number"],
        unique=False,
    )
    op.create_table(
        "hub_discussions",
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("author", sa.String(length=96), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("pull", sa.Boolean(), nullable=False),
        sa.Column("base", sa.String(length=255), nullable=True),
        sa.Column("merged_commit", sa.String(length=40), nullable=True),
        sa.Column("created", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["hub_repositories.id"],
            name=op.f("fk_hub_discussions_repository_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("repository_id", "number", name=op.f("pk_hub_discussions")),
    )
    op.create_table(
        "hub_owned",
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("xet", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["hub_repositories.id"], name=op.f("fk_hub_owned_repository_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("repository_id", "sha256", name=op.f("pk_hub_owned")),
    )
    op.create_table(
        "hub_moved",
        sa.Column("key", sa.String(length=240), nullable=False),
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["hub_repositories.id"], name=op.f("fk_hub_moved_repository_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_hub_moved")),
    )
    op.create_table(
        "hub_refs",
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("commit_id", sa.String(length=40), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["hub_repositories.id"], name=op.f("fk_hub_refs_repository_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("repository_id", "name", name=op.f("pk_hub_refs")),
    )
    op.create_table(
        "hub_repository_commits",
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("commit_id", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["hub_repositories.id"],
            name=op.f("fk_hub_repository_commits_repository_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("repository_id", "commit_id", name=op.f("pk_hub_repository_commits")),
    )
    op.create_table(
        "hub_repository_tags",
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("tag", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["hub_repositories.id"],
            name=op.f("fk_hub_repository_tags_repository_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("repository_id", "tag", name=op.f("pk_hub_repository_tags")),
    )
    op.create_index(op.f("ix_hub_repository_tags_tag"), "hub_repository_tags", ["tag"], unique=False)


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("hub_settings")
    op.drop_index(op.f("ix_hub_repository_tags_tag"), table_name="hub_repository_tags")
    op.drop_table("hub_repository_tags")
    op.drop_table("hub_repository_commits")
    op.drop_table("hub_refs")
    op.drop_table("hub_moved")
    op.drop_table("hub_owned")
    op.drop_table("hub_discussions")
    op.drop_index(op.f("ix_hub_discussion_events_repository_id_number"), table_name="hub_discussion_events")
    op.drop_table("hub_discussion_events")
    op.drop_table("hub_access_requests")
    op.drop_table("hub_trees")
    op.drop_table("hub_tree_pages")
    op.drop_index(op.f("ix_hub_repositories_owner"), table_name="hub_repositories")
    op.drop_index(op.f("ix_hub_repositories_kind_updated"), table_name="hub_repositories")
    op.drop_table("hub_repositories")
    op.drop_table("hub_inspections")
    op.drop_table("hub_commits")
