"""``python -m retrieval``: the command ``retrieval``."""

import sys

from retrieval.commands.cli import main

sys.exit(main())
