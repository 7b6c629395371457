"""``python -m service``: the ``quantrank`` command where only the interpreter is known."""

import sys

from service.cli import main

sys.exit(main())
