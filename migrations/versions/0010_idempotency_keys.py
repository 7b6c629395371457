"""Names that clients give what they post; numbers of deleted searches, which SQLite would give out again."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("poster", KEY, autoincrement=False, nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("request_digest", sa.String(64), nullable=False),
        sa.Column("search_id", KEY, nullable=True),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("poster", "key", name="pk_idempotency_keys"),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name="fk_idempotency_keys_search_id"),
    )
    op.create_index("ix_idempotency_keys_search_id", "idempotency_keys", ["search_id"])
    op.create_index("ix_idempotency_keys_expires_at", "idempotency_keys", ["expires_at"])
    _rebuild_searches_on_sqlite(sqlite_autoincrement=True)


def downgrade() -> None:
    op.drop_table("idempotency_keys")
    _rebuild_searches_on_sqlite(sqlite_autoincrement=False)


def _rebuild_searches_on_sqlite(**options: bool) -> None:
    if op.get_bind().dialect.name == "sqlite":
        with op.batch_alter_table("searches", recreate="always", table_kwargs=options):
            pass
