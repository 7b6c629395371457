"""What a user asks for: a search request and its limits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from searcher.budgets import MOST_BIT_OPERATIONS, MOST_MODEL_BYTES, MOST_PARAMETERS
from searcher.named import DEFAULT_BIT_WIDTHS
from searcher.samplers import Sampler

MOST_SECONDS = 366 * 24 * 3600.0

Name = Annotated[str, Field(max_length=64)]


class Limits(BaseModel):
    """What ends a search before every candidate has had its turn; null for no limit."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, json_schema_extra={"examples": [{"max_evaluations": 20}]}
    )

    max_evaluations: int | None = Field(
        default=None,
        ge=1,
        le=MOST_PARAMETERS,
        description="Most newly trained evaluations (candidate x rung x seed); stored results are free.",
    )
    time_limit_s: float | None = Field(
        default=None,
        gt=0,
        le=MOST_SECONDS,
        description="Seconds after which the search ends with what it has; the best are promoted early, then.",
    )
    target_accuracy: float | None = Field(
        default=None,
        gt=0,
        le=100,
        description="Percent: the search ends with the first candidate whose validation accuracy reaches it.",
    )


class SearchRequest(Limits):
    """Which architecture, within these budgets, is best at the first of these bit widths? Gives at least one budget."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"task": "digits", "parameter_budget": 20_000},
                {"task": "fashion-mnist-14", "model_bytes_budget": 16_384, "bit_operations_budget": 7_000_000},
            ]
        },
    )

    task: Name = Field(
        description="Name of a task, as GET /tasks lists them; images/<folder>@<size> for the user's own images."
    )
    parameter_budget: int | None = Field(
        default=None,
        ge=1,
        le=MOST_PARAMETERS,
        description="Most trainable parameters of the float network a candidate may have. At least one of this, "
        "model_bytes_budget and bit_operations_budget has to be given; candidates are within all that are.",
    )
    model_bytes_budget: int | None = Field(
        default=None,
        ge=1,
        le=MOST_MODEL_BYTES,
        description="Most bytes a candidate may have, deployed at the first bit widths: weights packed at their bits, "
        "all else in float32.",
    )
    bit_operations_budget: int | None = Field(
        default=None,
        ge=1,
        le=MOST_BIT_OPERATIONS,
        description="Most bit operations for one input at the first bit widths: MACs x weight bits x input bits, "
        "summed over layers; float counts 32 bits.",
    )
    bit_widths: list[Name] = Field(
        default=list(DEFAULT_BIT_WIDTHS),
        min_length=1,
        max_length=16,
        description="Bit widths each candidate is retrained at; the first ranks.",
    )
    blocks: list[Name] | None = Field(
        default=None, min_length=1, max_length=16, description="Block kinds; the task's default ones if not given."
    )
    depths: list[int] | None = Field(
        default=None,
        min_length=1,
        max_length=32,
        description="Depths L; each block takes those it has. Its default depths if not given.",
    )
    widths: list[int] | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="Initial widths D; those over a budget are left out. The widest that fits if not given.",
    )
    architectures: list[Name] | None = Field(
        default=None,
        min_length=1,
        max_length=1000,
        description="Names or aliases of the candidates themselves, in place of blocks, depths and widths.",
    )
    engine: Literal["optuna", "ray"] = Field(
        default="optuna",
        description="Where evaluations run: optuna has quantrank's own workers claim them, ray has Ray Tune place them "
        "on a cluster, by a driver that `quantrank ray` starts. Candidates, results and leaderboard are the same.",
    )
    sampler: Sampler = Field(
        default="tpe",
        description="Which candidate comes next: grid takes them in their order, tpe and gp learn from results.",
    )
    minimize: Literal["parameters", "bit_operations"] | None = Field(
        default=None, description="A cost that the sampler tpe is to keep small beside a great accuracy."
    )
    rungs: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        default=[],
        max_length=4,
        description="Successive halving: every candidate is trained with the recipe's epochs times the first of these "
        "fractions, the best share goes on to the next, and at last to the full recipe, which alone is ranked.",
        examples=[[0.15]],
    )
    promoted_share: float = Field(default=0.25, gt=0, lt=1, description="Share of a rung that goes on to the next.")
    max_seeds: int | None = Field(
        default=None,
        ge=1,
        le=32,
        description="Repeat the best candidates with up to so many seeds until their ranks are told apart. "
        "No more than `seeds` if absent.",
    )
    top: int = Field(default=1, ge=1, le=100, description="How many of the best are to be told apart by further seeds.")
    indifference_margin: float = Field(
        default=0.5, ge=0, le=100, description="Difference in percentage points that needs no further seeds."
    )
    priority: int = Field(
        default=0, ge=-100, le=100, description="Searches of a higher priority are served first; equal ones share."
    )
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(
        default=[0], min_length=1, max_length=32, description="Each candidate is trained once per seed."
    )
    recipe: Name | dict[str, JsonValue] | None = Field(
        default=None,
        description="A recipe's name, or an object of overrides (with `name` for the recipe they change).",
    )
