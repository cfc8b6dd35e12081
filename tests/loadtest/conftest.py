"""`loadtest` is not installed with the product; it is found from the root of the project."""

from __future__ import annotations

import sys
from pathlib import Path

# Last: what runs compiled is found before its sources.
sys.path.append(str(Path(__file__).resolve().parents[2]))
