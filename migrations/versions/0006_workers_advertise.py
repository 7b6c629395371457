"""Workers say what they have, and which tasks they lack the data of."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("DELETE FROM workers")  # of an earlier release, which cannot go on with these tables
    op.add_column("workers", sa.Column("memory_bytes", sa.BigInteger(), nullable=True))
    for column in ("cores", "threads"):
        op.add_column("workers", sa.Column(column, sa.Integer(), nullable=False))
    op.add_column("workers", sa.Column("lease_seconds", sa.Double(), nullable=False))

    op.create_table(
        "missing_data",
        sa.Column("worker_id", sa.String(32), nullable=False),
        sa.Column("task", sa.String(64), nullable=False),
        sa.Column("task_version", sa.String(64), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("worker_id", "task", "task_version", name="pk_missing_data"),
    )


def downgrade() -> None:
    op.drop_table("missing_data")
    for column in ("lease_seconds", "threads", "cores", "memory_bytes"):
        op.drop_column("workers", column)
