"""What quantization does inside a trained network, layer by layer, measured when a page asks for it."""

import json
import os
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path as FilePath
from threading import Lock
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.exceptions import HTTPException

from qcore import InvalidInput
from qcore.export import export
from searcher.artifacts import StoreFailed
from searcher.exports import stage_to_export, trained_network
from service.dependencies import MOST_ID, DatabaseOf, SettingsOf
from service.lanes import Lane, in_lane
from service.own_processes import own_command

EXAMPLES, MOST_SECONDS = 200, 120

router = APIRouter(include_in_schema=False)
_one_at_a_time = Lock()


@router.get("/ui/evaluations/{evaluation_id}/measurements")
@in_lane(Lane.MEASURING)
def get_measurements(
    evaluation_id: Annotated[int, Path(ge=1, le=MOST_ID)],
    database: DatabaseOf,
    settings: SettingsOf,
    stage: Annotated[str, Query(max_length=64)],
) -> dict[str, Any]:
    """As ``quantrank measure --json`` tells it. That is a process of its own: the server imports no torch."""
    with database.read() as session:
        evaluation, found = stage_to_export(session, evaluation_id, None, stage)
    try:
        trained = trained_network(evaluation, found, settings.open_artifacts())
    except StoreFailed as error:
        raise HTTPException(503, str(error)) from None
    # Nobody waits here: so many who wait would be all the threads that routes have.
    if not _one_at_a_time.acquire(blocking=False):
        detail = "Another network is being measured; try again in a moment"
        raise HTTPException(503, detail, {"Retry-After": "10"})
    try:
        return _measured(export(trained, "safetensors"), settings.data_root)
    finally:
        _one_at_a_time.release()


@lru_cache(maxsize=64)
def _measured(network: bytes, data_root: FilePath) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = FilePath(folder) / "network.safetensors"
        path.write_bytes(network)
        command = own_command("measure", str(path), "--json", "--examples", str(EXAMPLES))
        environment = {**os.environ, "QUANTRANK_DATASETS": str(data_root)}
        try:
            ended = subprocess.run(  # noqa: S603  nothing in it is a user's
                command, env=environment, capture_output=True, text=True, timeout=MOST_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise HTTPException(503, f"Measuring took longer than {MOST_SECONDS} seconds") from None
    if ended.returncode:
        told = ended.stderr.strip().rpartition("\n")[2] or "there is no word why"
        raise InvalidInput("stage", "", f"could not be measured ({told[:500]})", "see that its task's data are there")
    measured: dict[str, Any] = json.loads(ended.stdout)
    return measured
