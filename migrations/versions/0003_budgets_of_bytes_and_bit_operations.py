"""Searches have budgets of bytes and of bit operations beside that of parameters; none of them is required."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("searches") as searches:
        searches.alter_column("parameter_budget", existing_type=sa.BigInteger(), nullable=True)
        searches.add_column(sa.Column("model_bytes_budget", sa.BigInteger(), nullable=True))
        searches.add_column(sa.Column("bit_operations_budget", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.execute("UPDATE searches SET parameter_budget = 100000000 WHERE parameter_budget IS NULL")
    with op.batch_alter_table("searches") as searches:
        searches.drop_column("bit_operations_budget")
        searches.drop_column("model_bytes_budget")
        searches.alter_column("parameter_budget", existing_type=sa.BigInteger(), nullable=False)
