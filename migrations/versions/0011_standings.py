"""Standings, by which leaderboards are ordered. ``searcher.schema.upgrade`` counts what is there."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
RANKED = ("task", "task_version", "numerics_version", "float_recipe_hash")


def upgrade() -> None:
    op.create_table(
        "leaderboards",
        sa.Column("id", KEY, nullable=False),
        sa.Column("task", sa.String(64), nullable=False),
        sa.Column("task_version", sa.String(64), nullable=False),
        sa.Column("numerics_version", sa.Integer(), nullable=False),
        sa.Column("float_recipe_hash", sa.String(64), nullable=False),
        sa.Column("retraining_recipe_hash", sa.String(64), nullable=False),
        sa.Column("bit_widths", sa.String(8), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_leaderboards"),
        sa.UniqueConstraint(*RANKED, "retraining_recipe_hash", "bit_widths", name="uq_leaderboards_ranked"),
    )
    op.create_table(
        "standings",
        sa.Column("leaderboard_id", KEY, nullable=False),
        sa.Column("architecture", sa.String(64), nullable=False),
        sa.Column("block", sa.String(32), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("parameters", sa.BigInteger(), nullable=False),
        sa.Column("macs", sa.BigInteger(), nullable=False),
        sa.Column("bit_operations", sa.BigInteger(), nullable=False),
        sa.Column("model_bytes", sa.BigInteger(), nullable=False),
        sa.Column("seeds", sa.Integer(), nullable=False),
        sa.Column("accuracy", sa.Double(), nullable=True),
        sa.Column("squares", sa.Double(), nullable=False),
        sa.Column("float_accuracy", sa.Double(), nullable=True),
        sa.Column("drop", sa.Double(), nullable=True),
        sa.Column("train_seconds", sa.Double(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["leaderboard_id"], ["leaderboards.id"], name="fk_standings_leaderboard_id"),
        sa.PrimaryKeyConstraint("leaderboard_id", "architecture", name="pk_standings"),
    )
    op.create_index("ix_standings_leaderboard_id_revision", "standings", ["leaderboard_id", "revision"])
    op.add_column("stages", sa.Column("counted", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_index(
        "ix_stages_uncounted",
        "stages",
        ["status"],
        postgresql_where=sa.text("NOT counted"),
        sqlite_where=sa.text("counted = 0"),
    )
    op.drop_index("ix_evaluations_leaderboard", "evaluations")
    op.create_index("ix_evaluations_leaderboard", "evaluations", [*RANKED, "architecture"])


def downgrade() -> None:
    op.drop_index("ix_evaluations_leaderboard", "evaluations")
    op.create_index("ix_evaluations_leaderboard", "evaluations", [*RANKED])
    op.drop_index("ix_stages_uncounted", "stages")
    op.drop_column("stages", "counted")
    op.drop_table("standings")
    op.drop_table("leaderboards")
