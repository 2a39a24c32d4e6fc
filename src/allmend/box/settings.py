"""What a box is made from."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from allmend.box import environment, levels
from allmend.box.egress.gate import Dial, Resolve, resolve
from allmend.box.owner import Operator
from allmend.box.questions import Ask
from allmend.nouns.permissions import Permissions


@dataclass
class Settings:
    """What a box is made from."""

    permissions: Permissions
    environment: environment.Environment
    folder: Path
    """The folder that relative paths of the permissions are read from: the notebook's own."""
    level: levels.Level = "A"
    why: list[str] = field(default_factory=list)
    trace: bool = False
    """Show every file access to the supervisor: exact, slow."""
    ask: Ask | None = None
    operator: Operator = field(default_factory=Operator)
    """What this machine's owner grants: the package index."""
    colab: bool = False
    """Look like Colab: its variables, `google.colab` already imported."""
    below: tuple[str, ...] = ()
    """Package folders between the profile and the run's own layer."""
    uv: str | None = None
    """The uv program to show inside."""
    uploads: tuple[Path, ...] = ()
    web: bool = False
    """Look for web servers inside and tell `Box.web` of them."""
    scratch_parent: Path | None = None
    resolver: Resolve = resolve
    connect: Dial = asyncio.open_connection
