"""Recipes cut short: both stages train the share of steps that was asked for, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from qcore import TASKS, InvalidInput, Recipe, get_task, override, scaled_recipe
from qcore.data import Data, Split, generator_for, steps_per_epoch, training_batches
from qcore.recipe import PAPER_CIFAR10

RECIPES = [recipe for task in TASKS.values() for recipe in task.recipes]


@given(recipe=st.sampled_from(RECIPES), fraction=st.floats(1e-3, 0.999))
def test_both_stages_train_the_fraction_of_their_epochs(recipe: Recipe, fraction: float) -> None:
    short = scaled_recipe(recipe, fraction)
    for part, cut in ((recipe.float_part, short.float_part), (recipe.retraining, short.retraining)):
        trained = cut.schedule.epochs * cut.schedule.epoch_share
        assert trained == pytest.approx(part.schedule.epochs * part.schedule.epoch_share * fraction, rel=1e-6)
        assert cut.schedule.epochs - trained < 1
    assert short.retraining.cyclic is None


@given(recipe=st.sampled_from(RECIPES), fraction=st.floats(1e-3, 0.999))
def test_a_recipe_cut_short_is_a_recipe_that_can_be_stored(recipe: Recipe, fraction: float) -> None:
    short = scaled_recipe(recipe, fraction)
    assert Recipe.stored(short.model_dump(mode="json")) == short
    assert Recipe.model_validate(short.model_dump()) == short


def test_schedules_keep_their_shape() -> None:
    tenth = scaled_recipe(PAPER_CIFAR10, 0.1)
    assert tenth.float_part.schedule.milestones == (10, 15)
    assert tenth.float_part.schedule.epoch_share == 1.0
    warm = override(PAPER_CIFAR10, {"float_part": {"schedule": {"warmup_epochs": 10}}})
    assert scaled_recipe(warm, 0.1).float_part.schedule.warmup_epochs == 1


def test_what_is_not_the_length_stays() -> None:
    short = scaled_recipe(PAPER_CIFAR10, 0.1)
    restored = override(
        short,
        {
            "float_part": {"schedule": PAPER_CIFAR10.float_part.schedule.model_dump(mode="json")},
            "retraining": {"schedule": PAPER_CIFAR10.retraining.schedule.model_dump(mode="json")},
        },
    )
    assert restored.hash() == PAPER_CIFAR10.hash()


def test_recipes_keep_the_hashes_that_results_were_stored_by_before_there_were_shares() -> None:
    assert PAPER_CIFAR10.hash() == "9371d1d321b55101bb5834d9643e463b5c565359a1e7756046715dae2e111c14"
    stored = PAPER_CIFAR10.model_dump(mode="json")
    for part in ("float_part", "retraining"):
        del stored[part]["schedule"]["epoch_share"]
    assert Recipe.stored(stored) == PAPER_CIFAR10


def test_a_network_that_is_taken_as_it_is_cannot_be_cut_short() -> None:
    taken = override(PAPER_CIFAR10, {"float_part": {"checkpoint": {"path": "x.safetensors"}}})
    with pytest.raises(InvalidInput, match="rungs"):
        scaled_recipe(taken, 0.1)


@given(share=st.floats(0.01, 1), examples=st.integers(8, 200))
def test_an_epochs_share_is_drawn_anew_from_the_whole_split(share: float, examples: int) -> None:
    inputs = torch.arange(examples, dtype=torch.uint8).reshape(-1, 1, 1, 1)
    split = Split(inputs, torch.arange(examples))
    data = Data(split, split, split, torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1))
    part = override(get_task("digits").recipes[0], {"float_part": {"batch_size": 4, "crop_padding": 0}}).float_part
    steps = steps_per_epoch(data, part, share)
    assert steps == max(1, round(share * (examples // 4)))
    epochs = [[labels for _, labels in training_batches(data, part, generator_for(seed), share)] for seed in range(2)]
    for epoch in epochs:
        seen = torch.cat(epoch)
        assert len(epoch) == steps
        assert len(seen.unique()) == len(seen) == 4 * steps


@given(fraction=st.floats(0, 1, exclude_min=True, exclude_max=True), share=st.floats(0, 1, exclude_min=True))
@example(fraction=1e-300, share=1.0)
@example(fraction=5e-324, share=5e-324)
@example(fraction=0.15, share=1e-300)
def test_a_fraction_leaves_a_recipe_that_trains_or_is_refused(fraction: float, share: float) -> None:
    """Whatever small numbers there are."""
    recipe = override(PAPER_CIFAR10, {"float_part": {"schedule": {"epoch_share": share}}})
    if 200 * share * fraction > 0.5e-9:
        short = scaled_recipe(recipe, fraction)
        assert Recipe.stored(short.model_dump(mode="json")) == short
    else:
        with pytest.raises(InvalidInput, match=f"^rungs: {fraction!r} leaves nothing of"):
            scaled_recipe(recipe, fraction)
