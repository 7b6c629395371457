"""Searches say how they spend their evaluations: sampler, rungs, further seeds, limits."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _columns() -> tuple[sa.Column, ...]:
    return (
        sa.Column("sampler", sa.String(16), server_default="tpe", nullable=False),
        sa.Column("minimize", sa.String(32), nullable=True),
        sa.Column("rungs", sa.JSON(), server_default="[]", nullable=False),
        sa.Column("promoted_share", sa.Double(), server_default="0.25", nullable=False),
        sa.Column("max_seeds", sa.Integer(), server_default="1", nullable=False),
        sa.Column("top", sa.Integer(), server_default="1", nullable=False),
        sa.Column("indifference_margin", sa.Double(), server_default="0", nullable=False),
        sa.Column("time_limit_s", sa.Double(), nullable=True),
        sa.Column("target_accuracy", sa.Double(), nullable=True),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("started_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("ended_by", sa.String(32), nullable=True),
    )


def upgrade() -> None:
    for column in _columns():
        op.add_column("searches", column)
    with op.batch_alter_table("searches") as searches:  # the default was for the rows that are there
        searches.alter_column("rungs", existing_type=sa.JSON(), existing_nullable=False, server_default=None)
    op.add_column("proposals", sa.Column("rung", sa.Integer(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("proposals", "rung")
    for column in _columns():
        op.drop_column("searches", column.name)
