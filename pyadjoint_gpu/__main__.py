"""``python -m pyadjoint_gpu``."""

import sys

from .cli import main

sys.exit(main())
