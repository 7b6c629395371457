"""``python -m service``: the ``quantrank`` command where only the interpreter is known."""

import sys

from service.own_processes import leave_start_folder_out

leave_start_folder_out()

from service.cli import main  # noqa: E402  found where quantrank is installed

sys.exit(main())
