"""Tasks, as REST shows them."""

from __future__ import annotations

from pydantic import BaseModel, Field

from service.schemas.recipes import RecipeView


class DataView(BaseModel):
    """Whether a task's data set is on the server's host; a pool's workers have their own."""

    ready: bool
    remedy: str | None


class TaskView(BaseModel):
    """A data set that networks are compared on."""

    name: str
    version: str
    title: str
    input_shape: tuple[int, int, int]
    classes: int
    metric: str = Field(description="What accuracies are, in percent: accuracy, or mIOU.")
    train_examples: int
    validation_examples: int = Field(description="Of the data set's own; 0 where the recipe holds them out.")
    test_examples: int
    blocks: dict[str, tuple[int, ...]] = Field(description="Block kinds that suit the task, with default depths.")
    default_blocks: tuple[str, ...] = Field(description="Those of a search that names none.")
    recipes: list[RecipeView] = Field(description="The default first.")
    data: DataView


class TaskList(BaseModel):
    tasks: list[TaskView]
