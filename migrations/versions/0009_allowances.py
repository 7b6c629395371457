"""How much the holder of an API key may ask for."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

COLUMNS = {
    "max_running": sa.Integer,
    "max_parameter_budget": sa.BigInteger,
    "max_model_bytes_budget": sa.BigInteger,
    "max_bit_operations_budget": sa.BigInteger,
    "max_evaluations": sa.Integer,
}


def upgrade() -> None:
    for name, kind in COLUMNS.items():
        op.add_column("api_keys", sa.Column(name, kind(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("api_keys") as keys:
        for name in COLUMNS:
            keys.drop_column(name)
