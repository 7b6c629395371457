"""Recipes, as REST shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from qcore.recipe import Recipe


class RecipeView(BaseModel):
    """A recipe with the hash that identifies it."""

    name: str
    hash: str
    settings: dict[str, Any]

    @classmethod
    def of(cls, recipe: Recipe) -> RecipeView:
        return cls(name=recipe.name, hash=recipe.hash(), settings=recipe.model_dump(mode="json", exclude={"name"}))
