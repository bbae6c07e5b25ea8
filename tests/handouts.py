"""Reads the labs' handouts for the tests."""

from __future__ import annotations

import re
from pathlib import Path

from labs.harness.catalog import ROOT, lab_folders

FENCE = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def handouts() -> list[Path]:
    """Every handout of every lab, in all languages."""
    return [path for folder in lab_folders(ROOT).values() for path in sorted(folder.glob("handout*.md"))]


def commands(path: Path) -> list[str]:
    """The command lines of a handout: every line of its sh blocks, without comments."""
    lines = [line.partition("#")[0].strip() for block in FENCE.findall(path.read_text("utf-8"))
             for line in block.splitlines()]
    return [line for line in lines if line]
