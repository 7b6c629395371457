"""Schemathesis over the API as /openapi.json describes it, all checks: no fault, and no answer that is not described.

    python tests/fuzz/run.py --cases 10000

The server runs here, on a database of its own that holds something of everything. Exits with Schemathesis' status.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from serving import server

HERE = Path(__file__).parent


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000, help="at least so many (default: 10000)")
    parser.add_argument("--examples", type=int, default=300, help="random ones for each route and round (default: 300)")
    parser.add_argument("--phases", default="examples,coverage,fuzzing,stateful", help="Schemathesis' (default: all)")
    return fuzz(**vars(parser.parse_args()))


def fuzz(cases: int, examples: int, phases: str) -> int:
    """Runs at least so many cases, in rounds; Schemathesis' status, 0 where it found nothing."""
    found = 0
    with server() as url:
        while found < cases:
            ended = subprocess.run(
                [
                    str(Path(sys.executable).parent / "schemathesis"),
                    *(
                        "--config-file",
                        str(HERE / "schemathesis.toml"),
                        "run",
                        f"{url}/openapi.json",
                        "--checks",
                        "all",
                    ),
                    *("--max-examples", str(examples), "--phases", phases),
                ],
                stdout=subprocess.PIPE,
                text=True,
                check=False,
                env=os.environ | {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)},
            )
            print(ended.stdout, flush=True)
            if ended.returncode != 0:
                return ended.returncode
            found += int(re.findall(r"(\d+) generated", ended.stdout)[0])
    print(f"{found} cases, nothing found.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
