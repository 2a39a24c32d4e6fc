"""What the numbers of a row of the ledger count."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the unit; all that was counted so far were tokens."""
    op.add_column("usage", sa.Column("unit", sa.String(length=12), nullable=False, server_default="tokens"))


def downgrade() -> None:
    """Forget the unit."""
    with op.batch_alter_table("usage") as table:
        table.drop_column("unit")
