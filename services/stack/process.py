"""Entry point of a service process. Nothing heavy is imported before its first line runs."""

from __future__ import annotations

import gc
import sys


def main() -> int:
    """Serves as `serve.main` says."""
    # At a start the garbage collector finds nothing, and takes a sixth of the time in which nobody is served.
    gc.set_threshold(100_000, 50, 100)
    from services.stack.serve import main as serve

    return serve()


if __name__ == "__main__":
    sys.exit(main())
