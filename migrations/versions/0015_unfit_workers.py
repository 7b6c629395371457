"""Workers that are unfit, and evaluations that met an error that nobody knows."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("unfit_reason", sa.Text(), nullable=True))
    op.add_column("workers", sa.Column("unfit_since", sa.Double(), nullable=True))
    op.add_column("evaluations", sa.Column("suspected_by", sa.String(32), nullable=True))


def downgrade() -> None:
    op.drop_column("evaluations", "suspected_by")
    op.drop_column("workers", "unfit_since")
    op.drop_column("workers", "unfit_reason")
