"""When evaluations of a search's candidates were last claimed: searches of one priority are served in turn."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("candidates", sa.Column("served_at", sa.Double(), nullable=True))
    op.create_index("ix_candidates_search_id_served_at", "candidates", ["search_id", "served_at"])


def downgrade() -> None:
    op.drop_index("ix_candidates_search_id_served_at", "candidates")
    with op.batch_alter_table("candidates") as batch:
        batch.drop_column("served_at")
