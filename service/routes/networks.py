"""Trained networks to download."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from starlette.exceptions import HTTPException

from qcore import BitWidths, InvalidInput
from qcore.export import FORMATS, export
from searcher.artifacts import StoreFailed
from searcher.database import Database
from searcher.exports import stage_to_export, trained_network
from searcher.results import get_evaluation
from service.conditional import is_known
from service.dependencies import DatabaseOf, EvaluationId, SettingsOf
from service.lanes import Lane, in_lane
from service.problems import NotFound, problem_responses
from service.settings import Settings

router = APIRouter(tags=["evaluations"])

BitWidthsName = Annotated[
    str | None,
    Query(max_length=16, description="`W2A2` if not given, or else those that rank; `float` is one of them."),
]
StageKey = Annotated[
    str | None, Query(max_length=64, description="The stage's key or its beginning, to choose among recipes.")
]
KnownTag = Annotated[str | None, Header(description="ETags that are there already.")]


class NetworkFile(Response):
    """The bytes of a file, whatever is in it."""

    media_type = "application/octet-stream"


_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {NetworkFile.media_type: {"schema": {"type": "string", "format": "binary"}}},
        "description": "The file, named after architecture, task and bit widths.",
        "headers": {"ETag": {"schema": {"type": "string"}}, "Content-Disposition": {"schema": {"type": "string"}}},
    },
    304: {"description": "The file is the one whose ETag was sent."},
    **problem_responses(503),
}


@router.get("/evaluations/{evaluation_id}/model", response_class=NetworkFile, responses=_FILE)
@in_lane(Lane.FILES)
def get_model(
    evaluation_id: EvaluationId,
    database: DatabaseOf,
    settings: SettingsOf,
    bit_widths: BitWidthsName = None,
    stage: StageKey = None,
    if_none_match: KnownTag = None,
) -> Response:
    """The trained network as safetensors, which `qcore.load_network` reads; what `quantrank export` writes."""
    return _download(database, settings, "safetensors", evaluation_id, bit_widths, stage, if_none_match)


@router.get("/evaluations/{evaluation_id}/model.onnx", response_class=NetworkFile, responses=_FILE)
@in_lane(Lane.FILES)
def get_onnx_model(
    evaluation_id: EvaluationId,
    database: DatabaseOf,
    settings: SettingsOf,
    bit_widths: BitWidthsName = None,
    stage: StageKey = None,
    with_codes: Annotated[bool, Query(description="Output every activation's codes too.")] = False,
    if_none_match: KnownTag = None,
) -> Response:
    """The trained network as ONNX, with integer weights and quantized activations; takes float32 images in 0..1."""
    return _download(database, settings, "onnx", evaluation_id, bit_widths, stage, if_none_match, with_codes=with_codes)


def _download(
    database: Database,
    settings: Settings,
    file_format: str,
    evaluation_id: int,
    bit_widths: str | None,
    stage_key: str | None,
    known_tags: str | None,
    *,
    with_codes: bool = False,
) -> Response:
    wanted = None if bit_widths is None else BitWidths.parse(bit_widths)
    with database.read() as session:
        if get_evaluation(session, evaluation_id) is None:
            raise NotFound(f"evaluation {evaluation_id}", "GET /leaderboard lists finished ones")
        evaluation, stage = stage_to_export(session, evaluation_id, wanted, stage_key)
    # The store may be far away: no session is held meanwhile.
    tag = None if stage.network_digest is None else f'"{stage.network_digest}.{file_format}.{with_codes:d}"'
    headers = {} if tag is None else {"ETag": tag, "Cache-Control": "private, no-cache"}
    if tag is not None and is_known(tag, known_tags):
        return Response(status_code=304, headers=headers)
    try:
        trained = trained_network(evaluation, stage, settings.open_artifacts())
    except StoreFailed as error:
        raise HTTPException(503, str(error)) from None
    except InvalidInput as error:  # it is not in the store, or not what was put there
        raise HTTPException(404, str(error)) from None
    content = export(trained, file_format, with_codes=with_codes)
    headers["Content-Disposition"] = f'attachment; filename="{trained.description.label}{FORMATS[file_format]}"'
    return NetworkFile(content, headers=headers)
