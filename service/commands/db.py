"""``quantrank db``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from searcher.database import described
from searcher.schema import upgrade
from service.output import print_json
from service.settings import load_settings

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Brings the database's tables to this release's."""
    database = load_settings().open_database()
    revision = upgrade(database)
    url = described(database.url)
    if arguments.json:
        print_json({"database": url, "revision": revision})
    else:
        print(f"{url} is at revision {revision}")
    return 0
