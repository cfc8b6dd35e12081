"""What becomes of freed memory, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from meshproxy.sidecar.memory import KEPT

MEGABYTE = 2**20

PROGRAM = """
import json, resource, sys
import psutil
from meshproxy.sidecar.memory import keep_freed

if not keep_freed():
    sys.exit(3)

def use(megabytes):
    return len([bytes(2**20 + each) for each in range(megabytes)])

for _ in range(5):
    use(8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    use(8)
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
process = psutil.Process()
small = process.memory_info().rss
use(200)
print(json.dumps([faults * resource.getpagesize(), process.memory_info().rss - small]))
"""


@pytest.fixture(scope="module")
def seen() -> tuple[int, int]:
    """Bytes that the kernel had to give again, and that are kept after much more was used."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip("the C library has no mallopt")
    assert done.returncode == 0, done.stderr
    again, kept = json.loads(done.stdout)
    return again, kept


def test_what_is_needed_again_and_again_is_kept(seen: tuple[int, int]) -> None:
    again, _ = seen
    assert again < MEGABYTE  # glibc by default: 19 of the 160 that were used


def test_no_more_is_kept_than_that(seen: tuple[int, int]) -> None:
    _, kept = seen
    assert kept <= KEPT + MEGABYTE
