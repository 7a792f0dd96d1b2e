"""Files that are there as a whole or not at all."""

import os
from pathlib import Path


def write(path: Path, text: str) -> None:
    """Replace the whole file at once: a reader sees the old text or the new one.

    The name in between holds the process: two that write the same file do not meet in it.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    part.write_text(text)
    part.replace(path)
