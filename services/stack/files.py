"""Small files that hold state or secrets: private from the moment of creation, replaced in one step."""

from __future__ import annotations

import os
from pathlib import Path


def write_private(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Replaces `path` in one step with a file only its owner can read.

    `durable` waits for the disk: for what cannot be made again, such as secrets.
    """
    data = content.encode() if isinstance(content, str) else content
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    scratch.replace(path)
