"""The hub's store: xorbs, chunks and files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "hub_xorbs",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("object", sa.String(120), nullable=False),
        sa.Column("packed", sa.BigInteger, nullable=False),
        sa.Column("unpacked", sa.BigInteger, nullable=False),
        sa.Column("chunks", sa.LargeBinary, nullable=False),
        sa.Column("touched", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_hub_xorbs"),
        sa.UniqueConstraint("hash", name="uq_hub_xorbs_hash"),
    )
    op.create_index("ix_hub_xorbs_touched", "hub_xorbs", ["touched"])
    op.create_table(
        "hub_chunks",
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("xorb_id", sa.Integer, nullable=False),
        sa.Column("place", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(["xorb_id"], ["hub_xorbs.id"], name="fk_hub_chunks_xorb_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("hash", name="pk_hub_chunks"),
    )
    op.create_index("ix_hub_chunks_xorb_id", "hub_chunks", ["xorb_id"])
    op.create_table(
        "hub_files",
        sa.Column("xet", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("terms", sa.LargeBinary, nullable=False),
        sa.Column("touched", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("xet", name="pk_hub_files"),
    )
    op.create_index("ix_hub_files_sha256", "hub_files", ["sha256"])
    op.create_index("ix_hub_files_touched", "hub_files", ["touched"])
    op.create_table(
        "hub_file_xorbs",
        sa.Column("xet", sa.String(64), nullable=False),
        sa.Column("xorb_id", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(["xet"], ["hub_files.xet"], name="fk_hub_file_xorbs_xet", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["xorb_id"], ["hub_xorbs.id"], name="fk_hub_file_xorbs_xorb_id"),
        sa.PrimaryKeyConstraint("xet", "xorb_id", name="pk_hub_file_xorbs"),
    )
    op.create_index("ix_hub_file_xorbs_xorb_id", "hub_file_xorbs", ["xorb_id"])


def downgrade() -> None:
    """Drop the tables."""
    for table in ("hub_file_xorbs", "hub_files", "hub_chunks", "hub_xorbs"):
        op.drop_table(table)
