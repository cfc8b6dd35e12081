"""Builds the data path with mypyc where a C compiler is at hand; everything else is in pyproject.

The sources stay plain Python: what cannot be compiled runs as it is, only slower. An editable
install is never compiled, so that what is edited is what runs.

MESHPROXY_COMPILE: ``auto`` (the default), ``always`` (fail if it cannot be done), ``never``.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup

DATA_PATH = (
    "meshproxy/wire/*.py",
    "meshproxy/wire/kafka/*.py",
    "meshproxy/trace/*.py",
    "meshproxy/trace/formats/*.py",
    "meshproxy/linking/*.py",
    "meshproxy/linking/stitch/*.py",
    "meshproxy/stats.py",
    "meshproxy/filter.py",
    "meshproxy/transport/client.py",
    "meshproxy/transport/joining.py",
    "meshproxy/transport/pipeline.py",
    "meshproxy/transport/runtime.py",
    "meshproxy/transport/server.py",
    "meshproxy/transport/ticker.py",
    "meshproxy/transport/upstream.py",
    "meshproxy/export/otlp.py",
    "meshproxy/export/protobuf.py",
    "meshproxy/export/queue.py",
    "filters/*.py",
    "filters/http/*.py",
    "filters/kafka/*.py",
)


def wanted() -> bool:
    """Whether to compile now."""
    mode = os.environ.get("MESHPROXY_COMPILE", "auto")
    if mode == "always":
        return True
    if mode == "never" or {"editable_wheel", "egg_info", "sdist"} & set(sys.argv):
        return False
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    headers = Path(sysconfig.get_path("include"), "Python.h")
    if shutil.which(compiler) and headers.exists():
        return True
    print(
        "meshproxy: no C compiler or no Python headers: not compiled, runs slower", file=sys.stderr
    )
    return False


def extensions() -> list[Extension]:
    """The compiled modules; none when they are not wanted."""
    if not wanted():
        return []
    from mypyc.build import mypycify

    sources = [
        str(path)
        for pattern in DATA_PATH
        for path in sorted(Path().glob(pattern))
        if path.name != "__init__.py"
    ]
    # A file of C for each module takes the compiler half the time of one for all.
    return mypycify(sources, opt_level="3", debug_level="0", multi_file=True)


setup(ext_modules=extensions())
