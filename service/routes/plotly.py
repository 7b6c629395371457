"""plotly.js, from the Python package that carries it: pages load nothing from elsewhere."""

import gzip
from functools import lru_cache
from importlib.metadata import version
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from service.lanes import Lane, in_lane

VERSION = version("plotly")
PATH = f"/static/plotly-{VERSION}.min.js"

router = APIRouter(include_in_schema=False)


@router.get(PATH)
@in_lane(Lane.STATIC)
def get_plotly(request: Request) -> Response:
    """The whole library. Its address has its version, so browsers may keep it for good."""
    compressed = "gzip" in request.headers.get("accept-encoding", "")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    if compressed:
        headers["Content-Encoding"] = "gzip"
    return Response(_content(compressed=compressed), headers=headers, media_type="text/javascript")


@lru_cache(maxsize=2)
def _content(*, compressed: bool) -> bytes:
    # Importing plotly would take longer than everything else the server does before it answers.
    content = (files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    return gzip.compress(content, 6) if compressed else content
