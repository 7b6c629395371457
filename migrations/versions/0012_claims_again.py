"""Evaluations that were claimed more than once, so that they are counted without reading the others."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

CLAIMED_AGAIN = sa.text("attempt > 1")


def upgrade() -> None:
    op.create_index(
        "ix_evaluations_again", "evaluations", ["attempt"], postgresql_where=CLAIMED_AGAIN, sqlite_where=CLAIMED_AGAIN
    )


def downgrade() -> None:
    op.drop_index("ix_evaluations_again", "evaluations")
