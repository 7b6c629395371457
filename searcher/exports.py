"""From a stored stage to the file its network is shipped in. Functions take a session and never commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from qcore import InvalidInput
from qcore.export import NetworkDescription, TrainedNetwork, export
from qcore.export.network_file import described_network, describes_network, read_state
from searcher.artifacts import NetworkUnusable, network_file
from searcher.results import get_evaluation, plan_of, stages_of_evaluation
from searcher.tables import Proposal, Search

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from qcore import BitWidths
    from searcher.artifacts import Artifacts
    from searcher.tables import Evaluation, Stage

PREFERRED_BIT_WIDTHS = "W2A2"
_SHOWN_KEY_CHARACTERS = 12
_REMEDY = "`quantrank leaderboard` shows the numbers of finished evaluations"


def stage_to_export(
    session: Session, evaluation_id: int, bit_widths: BitWidths | None = None, stage_key: str | None = None
) -> tuple[Evaluation, Stage]:
    """An evaluation's finished stage at some bit widths: W2A2 if not given, or else those that rank.

    ``stage_key``, or its beginning, says which, where retrainings of several recipes have the same bit widths.

    Raises:
        InvalidInput: when there is no such evaluation or stage, it is not done, or it diverged.
    """
    evaluation = get_evaluation(session, evaluation_id)
    if evaluation is None:
        raise InvalidInput("evaluation", evaluation_id, "does not exist", _REMEDY)
    stages = stages_of_evaluation(session, evaluation_id)
    names = sorted({stage.bit_widths for stage in stages})
    wanted = str(bit_widths) if bit_widths is not None else _ranking(session, evaluation_id, names)
    if stage_key is not None:
        stages = [stage for stage in stages if stage.key.startswith(stage_key)]
        if not stages:
            raise InvalidInput(
                "stage", stage_key, f"is no stage of evaluation {evaluation_id}", _keys_at(evaluation_id)
            )
        if bit_widths is None and len(stages) == 1:
            wanted = stages[0].bit_widths
    found = [stage for stage in stages if stage.bit_widths == wanted]
    if not found:
        problem = f"is not among the bit widths of evaluation {evaluation_id}"
        raise InvalidInput("bit_widths", wanted, problem, f"use one of {', '.join(names)}")
    return evaluation, _exportable(evaluation, found)


def trained_network(evaluation: Evaluation, stage: Stage, artifacts: Artifacts) -> TrainedNetwork:
    """A stage's network, from the store.

    Raises:
        InvalidInput: when it is gone or damaged, the store fails, or it is of a release that described no networks and
            trained something else.
    """
    try:
        content = artifacts.read_network(stage.key, stage.network_digest)
    except NetworkUnusable as error:
        raise InvalidInput("evaluation", evaluation.id, str(error), _how_to_get(evaluation, stage)) from None
    name = f"{artifacts.location}/{network_file(stage.key, stage.network_digest)}"
    state, metadata = read_state(content, name)
    if describes_network(metadata):
        return described_network(state, metadata, name)
    return TrainedNetwork(NetworkDescription.of_stage(plan_of(evaluation, stage)), state)


def export_stage(
    evaluation: Evaluation, stage: Stage, artifacts: Artifacts, file_format: str, *, with_codes: bool = False
) -> bytes:
    """The content of the file in which a stage's network is shipped.

    Raises:
        InvalidInput: as ``trained_network`` and ``qcore.export.export``.
    """
    return export(trained_network(evaluation, stage, artifacts), file_format, with_codes=with_codes)


def _ranking(session: Session, evaluation_id: int, names: Sequence[str]) -> str:
    """W2A2 if the evaluation has it, or the bit widths by which the first search that wanted it ranks."""
    if PREFERRED_BIT_WIDTHS in names:
        return PREFERRED_BIT_WIDTHS
    query = (
        select(Search)
        .join(Proposal, Proposal.search_id == Search.id)
        .where(Proposal.evaluation_id == evaluation_id)
        .order_by(Search.id)
        .limit(1)
    )
    search = session.scalars(query).first()
    return names[0] if search is None else search.bit_widths[0]


def _exportable(evaluation: Evaluation, found: Sequence[Stage]) -> Stage:
    """The one stage among those of equal bit widths that can be exported."""
    done = [stage for stage in found if stage.status == "done"]
    bits = found[0].bit_widths
    if not done and any(stage.status == "diverged" for stage in found):
        raise InvalidInput("bit_widths", bits, f"diverged in evaluation {evaluation.id}", "choose other bit widths")
    if not done:
        problem = f"is not trained yet in evaluation {evaluation.id}, which is {evaluation.status}"
        raise InvalidInput("bit_widths", bits, problem, "wait for its search, or choose bit widths that are done")
    if len(done) > 1:
        keys = ", ".join(f"{each.key[:_SHOWN_KEY_CHARACTERS]} (recipe {each.recipe['name']})" for each in done)
        problem = f"was trained by {len(done)} recipes in evaluation {evaluation.id}"
        raise InvalidInput("bit_widths", bits, problem, f"choose with --stage: {keys}")
    return done[0]


def _how_to_get(evaluation: Evaluation, stage: Stage) -> str:
    bits = "" if stage.bit_widths == "float" else f" --bit-widths {stage.bit_widths}"
    command = f"quantrank evaluate {evaluation.architecture} --task {evaluation.task}{bits} --seed {evaluation.seed}"
    return (
        "set QUANTRANK_ARTIFACTS (or _HOME) to where its worker wrote, or train it again: "
        f"`{command} --recipe RECIPE --save DIR`, with the recipe that GET /evaluations/{evaluation.id} shows"
    )


def _keys_at(evaluation_id: int) -> str:
    return f"GET /evaluations/{evaluation_id} shows its stages' keys"
