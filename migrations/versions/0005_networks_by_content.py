"""Stages say by which content their network is stored."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("stages", sa.Column("network_digest", sa.String(64), nullable=True))


def downgrade() -> None:
    op.drop_column("stages", "network_digest")
