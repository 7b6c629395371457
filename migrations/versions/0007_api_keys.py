"""API keys, and which of them a search was posted with."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("hint", sa.String(16), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("last_used_at", sa.Double(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("digest", name="uq_api_keys_digest"),
    )
    with op.batch_alter_table("searches") as searches:
        searches.add_column(sa.Column("posted_by", KEY, nullable=True))
        searches.create_foreign_key("fk_searches_posted_by", "api_keys", ["posted_by"], ["id"])


def downgrade() -> None:
    with op.batch_alter_table("searches") as searches:
        searches.drop_constraint("fk_searches_posted_by", type_="foreignkey")
        searches.drop_column("posted_by")
    op.drop_table("api_keys")
