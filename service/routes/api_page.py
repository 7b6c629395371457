"""The API's description as a page: Swagger UI, from the files of the package fastapi-swagger."""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from service.lanes import Lane, in_lane
from service.routes.pages.rendering import render

SWAGGER_FOLDER = Path(str(files("fastapi_swagger.resources")))

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/docs")
@in_lane(Lane.READS)
def get_docs(request: Request) -> object:
    """Every route, what it takes and answers, and a form to try it with."""
    return render(request, "api.html")
