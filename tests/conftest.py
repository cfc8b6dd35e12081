"""For all tests: hypothesis does not judge by the clock, and in CI tries the same examples.

`loadtest` is not installed with the product; it is found from the root of the project. Last: what
runs compiled is found before its sources.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

settings.register_profile(
    "meshproxy",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("meshproxy")
sys.path.append(str(Path(__file__).resolve().parents[1]))
