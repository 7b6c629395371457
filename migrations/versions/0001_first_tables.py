"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "searches",
        sa.Column("id", KEY, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("task", sa.String(64), nullable=False),
        sa.Column("task_version", sa.String(64), nullable=False),
        sa.Column("numerics_version", sa.Integer(), nullable=False),
        sa.Column("parameter_budget", sa.BigInteger(), nullable=False),
        sa.Column("bit_widths", sa.JSON(), nullable=False),
        sa.Column("seeds", sa.JSON(), nullable=False),
        sa.Column("engine", sa.String(16), nullable=False),
        sa.Column("max_evaluations", sa.Integer(), nullable=True),
        sa.Column("recipe", sa.JSON(), nullable=False),
        sa.Column("float_recipe_hash", sa.String(64), nullable=False),
        sa.Column("retraining_recipe_hash", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_searches"),
    )
    op.create_index("ix_searches_status", "searches", ["status"])

    op.create_table(
        "candidates",
        sa.Column("id", KEY, nullable=False),
        sa.Column("search_id", KEY, nullable=False),
        sa.Column("architecture", sa.String(64), nullable=False),
        sa.Column("block", sa.String(32), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("parameters", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name="fk_candidates_search_id"),
        sa.PrimaryKeyConstraint("id", name="pk_candidates"),
        sa.UniqueConstraint("search_id", "architecture", name="uq_candidates_search_id_architecture"),
    )

    op.create_table(
        "evaluations",
        sa.Column("id", KEY, nullable=False),
        sa.Column("float_key", sa.String(64), nullable=False),
        sa.Column("task", sa.String(64), nullable=False),
        sa.Column("task_version", sa.String(64), nullable=False),
        sa.Column("architecture", sa.String(64), nullable=False),
        sa.Column("block", sa.String(32), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("parameters", sa.BigInteger(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("numerics_version", sa.Integer(), nullable=False),
        sa.Column("float_recipe_hash", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("fruitless_attempts", sa.Integer(), nullable=False),
        sa.Column("lease_token", sa.String(32), nullable=True),
        sa.Column("lease_ends", sa.Double(), nullable=True),
        sa.Column("worker_id", sa.String(32), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_evaluations"),
        sa.UniqueConstraint("float_key", name="uq_evaluations_float_key"),
    )
    op.create_index("ix_evaluations_status_lease_ends", "evaluations", ["status", "lease_ends"])
    op.create_index(
        "ix_evaluations_leaderboard", "evaluations", ["task", "task_version", "numerics_version", "float_recipe_hash"]
    )

    op.create_table(
        "proposals",
        sa.Column("candidate_id", KEY, nullable=False),
        sa.Column("evaluation_id", KEY, nullable=False),
        sa.Column("search_id", KEY, nullable=False),
        sa.Column("free", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["candidate_id"], ["candidates.id"], name="fk_proposals_candidate_id"),
        sa.ForeignKeyConstraint(["evaluation_id"], ["evaluations.id"], name="fk_proposals_evaluation_id"),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name="fk_proposals_search_id"),
        sa.PrimaryKeyConstraint("candidate_id", "evaluation_id", name="pk_proposals"),
    )
    op.create_index("ix_proposals_evaluation_id", "proposals", ["evaluation_id"])
    op.create_index("ix_proposals_search_id", "proposals", ["search_id"])

    op.create_table(
        "stages",
        sa.Column("id", KEY, nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("evaluation_id", KEY, nullable=False),
        sa.Column("bit_widths", sa.String(8), nullable=False),
        sa.Column("recipe", sa.JSON(), nullable=False),
        sa.Column("retraining_recipe_hash", sa.String(64), nullable=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("epochs", sa.Integer(), nullable=False),
        sa.Column("epochs_done", sa.Integer(), nullable=False),
        sa.Column("validation_accuracy", sa.Double(), nullable=True),
        sa.Column("test_accuracy", sa.Double(), nullable=True),
        sa.Column("train_seconds", sa.Double(), nullable=True),
        sa.Column("provenance", sa.JSON(), nullable=True),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["evaluation_id"], ["evaluations.id"], name="fk_stages_evaluation_id"),
        sa.PrimaryKeyConstraint("id", name="pk_stages"),
        sa.UniqueConstraint("key", name="uq_stages_key"),
    )
    op.create_index("ix_stages_evaluation_id_bit_widths", "stages", ["evaluation_id", "bit_widths"])

    op.create_table(
        "curve_points",
        sa.Column("stage_id", KEY, nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("train_loss", sa.Double(), nullable=True),
        sa.Column("validation_accuracy", sa.Double(), nullable=True),
        sa.Column("learning_rate", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["stage_id"], ["stages.id"], name="fk_curve_points_stage_id"),
        sa.PrimaryKeyConstraint("stage_id", "epoch", name="pk_curve_points"),
    )

    op.create_table(
        "events",
        sa.Column("id", KEY, nullable=False),
        sa.Column("search_id", KEY, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name="fk_events_search_id"),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
    )
    op.create_index("ix_events_search_id_id", "events", ["search_id", "id"])

    op.create_table(
        "workers",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("versions", sa.JSON(), nullable=False),
        sa.Column("evaluation_id", KEY, nullable=True),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("heartbeat_at", sa.Double(), nullable=False),
        sa.Column("stopped_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["evaluation_id"], ["evaluations.id"], name="fk_workers_evaluation_id"),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
    )


def downgrade() -> None:
    for table in ("workers", "events", "curve_points", "stages", "proposals", "evaluations", "candidates", "searches"):
        op.drop_table(table)
