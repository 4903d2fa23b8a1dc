"""The command `orchestrator-artifact`, as it lies on a job's PATH; what it does is in `tokens`, delivered beside it.

Both run with whatever Python 3.9+ is there.
"""

from __future__ import annotations

import os
import sys

LIBRARY = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib")

if __name__ == "__main__":
    sys.path.insert(0, LIBRARY)
    # By its name there, which is none of this repository's.
    sys.exit(__import__("tokens.report", fromlist=["main"]).main())
