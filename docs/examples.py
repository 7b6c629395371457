"""Records the answers that the API's description shows as examples: python docs/examples.py

A server is asked everything that /openapi.json lists; long lists are cut to their first entries.
"""

from __future__ import annotations

import json
import re
import socket
import sys
from pathlib import Path
from typing import Any

import httpx

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests" / "fuzz")]

from serving import server

from service.description import EXAMPLES, operations

BODY = {"task": "digits", "parameter_budget": 20_000, "depths": [8], "bit_widths": ["W2A2"], "rungs": [0.15]}
BODIES: dict[str, Any] = {
    "/search": BODY,
    "/search/estimate": BODY,
    "/searches/{search_id}/extend": {"max_evaluations": 9},
}
MOST_ENTRIES = 2


def main() -> None:
    found = {}
    with server() as url, httpx.Client(base_url=url) as http:
        for method, path, operation in operations(http.get("/openapi.json").json()):
            if not any("application/json" in each.get("content", {}) for each in operation["responses"].values()):
                continue
            filled = path.format(search_id=2, evaluation_id=1)
            params = {"task": "digits", "bit_widths": "W2A2"} if path == "/leaderboard" else None
            answer = http.request(method, filled, json=BODIES.get(path), params=params)
            assert answer.is_success, answer.text
            found[f"{method.upper()} {path}"] = shortened(answer.json())
    lines = ",\n".join(f"{json.dumps(route)}: {json.dumps(answer)}" for route, answer in found.items())
    text = re.sub(r"/tmp/quantrank-fuzz-\w+", "/srv/quantrank", lines)
    text = text.replace(json.dumps(socket.gethostname()), '"worker-1"')
    EXAMPLES.write_text(f"{{\n{text}\n}}\n")


def shortened(value: Any) -> Any:
    """Lists of objects cut to their first entries, here and within; host names and times as they were."""
    if isinstance(value, dict):
        return {name: shortened(each) for name, each in value.items()}
    if isinstance(value, list):
        return [
            shortened(each) for each in (value[:MOST_ENTRIES] if any(isinstance(e, dict) for e in value) else value)
        ]
    return value


if __name__ == "__main__":
    main()
