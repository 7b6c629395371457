"""One architecture as an evaluation trained it: accuracies, costs, layers and bits, downloads, and what made it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.orm import Session

from qcore import Architecture, BitWidths, InvalidInput, Recipe, Task, stored_task
from qcore.bit_widths import FLOAT, FLOAT_BITS
from qcore.export import NetworkDescription
from qcore.layer_bits import activation_bits, input_bits, weight_bits
from qcore.layers import Activation, Conv, Linear, weight_layers
from searcher.costs import costs_of
from searcher.counting import ranked_by
from searcher.provisional import missing_of_all_searches
from searcher.results import evaluations_alike, get_evaluation, stages_of_evaluation
from searcher.searches import searches_of_evaluation
from service.dependencies import MOST_ID, reads
from service.problems import NotFound
from service.reproduction import recipe_text, reproducing_command
from service.routes import plotly
from service.routes.pages.rendering import render
from service.schemas import EvaluationView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qcore.recipe import QuantizerSettings
    from searcher.tables import Evaluation, Stage

router = APIRouter(default_response_class=HTMLResponse)

_PREFERRED = "W2A2"


@router.get("/ui/evaluations/{evaluation_id}")
@reads()
def evaluation_page(
    request: Request,
    session: Session,
    evaluation_id: Annotated[int, Path(ge=1, le=MOST_ID)],
    stage: Annotated[str | None, Query(max_length=64, description="A stage's key, or its beginning.")] = None,
) -> Response:
    evaluation = get_evaluation(session, evaluation_id)
    if evaluation is None:
        raise NotFound(f"evaluation {evaluation_id}", "the leaderboards link to those that do")
    stages = stages_of_evaluation(session, evaluation_id)
    chosen = _chosen(stages, stage)
    task, recipe = stored_task(evaluation.task, evaluation.task_version), Recipe.stored(chosen.recipe)
    bits = BitWidths.parse(chosen.bit_widths)
    settings = recipe.retraining.quantizers
    quantized = tuple(each.bit_widths for each in stages if each.bit_widths != str(FLOAT))
    ranked = ranked_by(evaluation.task, evaluation.task_version, evaluation.numerics_version, recipe)
    missing = missing_of_all_searches(session, ranked, list(dict.fromkeys(quantized)), [evaluation.architecture])
    return render(
        request,
        "evaluation.html",
        evaluation=EvaluationView.of(
            evaluation, searches_of_evaluation(session, evaluation_id), [(each, ()) for each in stages]
        ),
        alike=evaluations_alike(session, evaluation),
        missing=missing.get(evaluation.architecture),
        task=task,
        stages=stages,
        chosen=chosen,
        recipe=recipe,
        recipe_changes=task.recipe_changes(recipe),
        costs=costs_of(evaluation.architecture, evaluation.task, evaluation.task_version, quantized, settings),
        layers=_layers(evaluation, task, bits, settings),
        command=reproducing_command(
            evaluation.architecture,
            task,
            recipe_text(task, recipe),
            quantized or (_PREFERRED,),
            [evaluation.seed],
            chosen.provenance or {},
        ),
        loading=_loading_lines(evaluation, task, bits, settings),
        plotly=plotly.PATH,
    )


def _chosen(stages: Sequence[Stage], key: str | None) -> Stage:
    if key is not None:
        found = next((each for each in stages if each.key.startswith(key)), None)
        if found is None:
            keys = ", ".join(each.key[:12] for each in stages)
            raise InvalidInput("stage", key, "is no stage of this evaluation", f"use one of {keys}")
        return found
    preferred = [each for each in stages if each.bit_widths == _PREFERRED] or [*stages[1:], stages[0]]
    return preferred[0]


@dataclass(frozen=True)
class LayerRow:
    """One layer that has weights, under the bit widths of a stage."""

    name: str
    kind: str
    shape: str
    """Of what it computes."""
    weights: int
    weight_bits: int
    input_bits: int
    output_bits: int | None
    """Of the activation that reads it next, if one quantizes it."""
    macs: int
    bit_operations: int
    share: float
    """Of all bit operations, in percent."""


def _layers(evaluation: Evaluation, task: Task, bits: BitWidths, settings: QuantizerSettings) -> list[LayerRow]:
    layers = Architecture.parse(evaluation.architecture).layers(task)
    of_weights, read = weight_bits(layers, bits, settings), input_bits(layers, bits, settings, task.input_bits)
    written: dict[str, int] = {}
    for layer in reversed(layers):  # what quantizes a layer's output may read it through others
        own = activation_bits(layer, bits, settings) if isinstance(layer, Activation) else written.get(layer.name)
        if own is not None and not isinstance(layer, Conv | Linear):
            written |= dict.fromkeys(layer.inputs, own)
    operations = {
        layer.name: layer.macs * (of_weights[layer.name] or FLOAT_BITS) * read[layer.name]
        for layer in weight_layers(layers)
    }
    total = sum(operations.values())
    return [
        LayerRow(
            name=layer.name,
            kind=_kind(layer),
            shape=" × ".join(map(str, layer.shape)),
            weights=layer.weights,
            weight_bits=of_weights[layer.name] or FLOAT_BITS,
            input_bits=read[layer.name],
            output_bits=written.get(layer.name),
            macs=layer.macs,
            bit_operations=operations[layer.name],
            share=100 * operations[layer.name] / total,
        )
        for layer in weight_layers(layers)
    ]


def _kind(layer: Conv | Linear) -> str:
    if isinstance(layer, Linear):
        return "linear"
    kind = "depthwise " if layer.groups > 1 and layer.groups == layer.in_channels else ""
    return f"{kind}{layer.kernel_size}×{layer.kernel_size}" + (f" / {layer.stride}" if layer.stride > 1 else "")


def _loading_lines(evaluation: Evaluation, task: Task, bits: BitWidths, settings: QuantizerSettings) -> str:
    """How to run the downloaded network in Python."""
    architecture = Architecture.parse(evaluation.architecture)
    name = NetworkDescription.of(architecture, task, bits, settings).label
    shape = ", ".join(map(str, task.input_shape))
    mean, std = (_constant(values) for values in (task.mean, task.std))
    return (
        "import torch\n"
        "from qcore import load_network\n"
        f'network = load_network("{name}.safetensors")\n'
        f"x = torch.rand(1, {shape})  # {'an image in 0..1' if task.input_bits == 8 else 'an input'}\n"
        f"print(network((x - {mean}) / {std}).argmax(1))\n"
    )


def _constant(values: Sequence[float]) -> str:
    """Per channel, as torch broadcasts them over an image."""
    if len(set(values)) == 1:
        return f"{values[0]:.6g}"
    return f"torch.tensor([{', '.join(f'{value:.6g}' for value in values)}]).reshape(-1, 1, 1)"
