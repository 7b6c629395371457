"""``quantrank gc``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from qcore import InvalidInput
from searcher.retention import collect_garbage
from searcher.schema import require_current
from service.output import number, print_json
from service.settings import load_settings

if TYPE_CHECKING:
    from argparse import Namespace

_DAY_SECONDS = 86_400.0


def run(arguments: Namespace) -> int:
    """Removes files from the artifact store that nothing needs any more, and says what that freed."""
    if not arguments.older_than >= 0:
        raise InvalidInput("older_than", arguments.older_than, "is no number of days", "use 0 or more")
    if arguments.keep_top is not None and arguments.keep_top < 1:
        raise InvalidInput("keep_top", arguments.keep_top, "keeps no network at all", "use 1 or more")
    settings = load_settings()
    if not settings.has_database:
        problem = "has no database, which says what is needed"
        remedy = "set QUANTRANK_HOME, or QUANTRANK_DATABASE_URL and _ARTIFACTS, to those of the server"
        raise InvalidInput("QUANTRANK_HOME", str(settings.home), problem, remedy)
    database = settings.open_database()
    require_current(database)
    artifacts = settings.open_artifacts()
    removed = collect_garbage(
        database,
        artifacts,
        older_than_seconds=arguments.older_than * _DAY_SECONDS,
        keep_top=arguments.keep_top,
        dry_run=arguments.dry_run,
    )
    size = sum(file.size for file in removed)
    if arguments.json:
        print_json(
            {
                "store": artifacts.location,
                "dry_run": arguments.dry_run,
                "bytes": size,
                "removed": [asdict(file) for file in removed],
            }
        )
        return 0
    for kind in sorted({file.kind for file in removed}):
        of_kind = [file.size for file in removed if file.kind == kind]
        print(f"{kind}: {number(len(of_kind))} of {number(sum(of_kind))} bytes")
    print(f"{'would free' if arguments.dry_run else 'freed'} {number(size)} bytes in {artifacts.location}")
    return 0
