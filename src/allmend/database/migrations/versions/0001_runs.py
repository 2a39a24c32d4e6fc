"""Runs with their inputs, choices, metrics and outputs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _of_run() -> sa.Column[str]:
    return sa.Column("run_id", sa.String(80), nullable=False)


def _constraints(table: str) -> tuple[sa.Constraint, ...]:
    return (
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=f"fk_{table}_run_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
    )


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "runs",
        sa.Column("id", sa.String(80), nullable=False),
        sa.Column("verb", sa.String(40), nullable=False),
        sa.Column("subject", sa.Text),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("started", sa.Double, nullable=False),
        sa.Column("ended", sa.Double),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("error", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_index("ix_runs_started", "runs", ["started"])
    op.create_index("ix_runs_verb_started", "runs", ["verb", "started"])
    for table in ("run_inputs", "run_outputs"):
        op.create_table(
            table,
            sa.Column("id", sa.Integer, nullable=False),
            _of_run(),
            sa.Column("name", sa.Text, nullable=False),
            sa.Column("path", sa.Text, nullable=False),
            sa.Column("sha256", sa.String(64)),
            *_constraints(table),
        )
        op.create_index(f"ix_{table}_run_id", table, ["run_id"])
    op.create_table(
        "run_choices",
        sa.Column("id", sa.Integer, nullable=False),
        _of_run(),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        *_constraints("run_choices"),
    )
    op.create_index("ix_run_choices_run_id", "run_choices", ["run_id"])
    op.create_table(
        "run_metrics",
        sa.Column("id", sa.Integer, nullable=False),
        _of_run(),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("time", sa.Double, nullable=False),
        *_constraints("run_metrics"),
    )
    op.create_index("ix_run_metrics_run_id_name_step", "run_metrics", ["run_id", "name", "step"])


def downgrade() -> None:
    """Drop the tables."""
    for table in ("run_metrics", "run_choices", "run_outputs", "run_inputs", "runs"):
        op.drop_table(table)
