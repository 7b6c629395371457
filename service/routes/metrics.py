"""Metrics, as Prometheus collects them."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client.exposition import choose_encoder

from service.lanes import Lane, in_lane
from service.metrics import Metrics

router = APIRouter(tags=["health"])

_TEXT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Requests by route and status, latencies, and the pool: queue, evaluations, workers, leases.",
        "content": {
            "text/plain": {"schema": {"type": "string"}, "example": "quantrank_queue_depth 12.0\n"},
            "application/openmetrics-text": {"schema": {"type": "string"}},
        },
    }
}


@router.get("/metrics", response_class=PlainTextResponse, responses=_TEXT)
@in_lane(Lane.METRICS)
def get_metrics(
    request: Request,
    accept: Annotated[str, Header(description="Prometheus says here which of its formats it takes.")] = "",
) -> Response:
    """What Prometheus collects; a key of role `read` will do. What the database says is up to a minute old."""
    metrics: Metrics = request.app.state.metrics
    encode, media_type = choose_encoder(accept)
    return Response(encode(metrics.registry), media_type=media_type)
