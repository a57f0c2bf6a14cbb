"""Makes the scripted engine of the rollout tests importable here too."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "rollout"))
