"""Run one service: ``python -m meshproxy.demo.services NAME PORT``."""

from __future__ import annotations

import importlib
import sys

MODULES = {
    "gateway": "threaded",
    "inventory": "threaded",
    "payments": "threaded",
    "ledger": "threaded",
    "orders": "orders",
    "pricing": "aio",
    "coupons": "aio",
    "shipping": "consumer",
    "carriers": "threaded",
}


def main(arguments: list[str]) -> int:
    """Serve until killed. Only the module of the service's own style is imported."""
    if len(arguments) != 2 or arguments[0] not in MODULES or not arguments[1].isdecimal():
        print(f"usage: python -m meshproxy.demo.services {{{','.join(MODULES)}}} PORT")
        return 2
    name, port = arguments
    module = importlib.import_module(f"meshproxy.demo.services.{MODULES[name]}")
    module.serve(name, int(port))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
