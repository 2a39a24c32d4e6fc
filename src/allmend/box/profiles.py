"""Named sets of packages a notebook starts with."""

from __future__ import annotations

from allmend.box import environment as environments
from allmend.box.document import Document
from allmend.box.environment import Environment
from allmend.box.owner import Operator
from allmend.errors import UsageError, nearest

PROFILES = ("auto", "this", "base", "colab")


def environment(profile: str, document: Document, operator: Operator) -> Environment:
    """The environment of a profile."""
    if profile not in PROFILES:
        raise UsageError(f"there is no profile {profile!r}", where="--profile", hint=nearest(profile, PROFILES) or None)
    return environments.of()
