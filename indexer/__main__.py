"""``python -m indexer``: the command ``indexer``."""

import sys

from indexer.commands.cli import main

sys.exit(main())
