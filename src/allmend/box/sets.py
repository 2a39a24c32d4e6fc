"""The sets of packages that notebooks install, each built once beneath the runs' own layers and shared read-only.

What a notebook's plan says it installs is resolved against the profile ahead of the run, so that its own `pip install`
finds it there, in a second run as in the first. What has no wheel, or is no plain name, stays for the notebook's cell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from allmend.box.environment import Environment
from allmend.box.installing import NotInstallable, cache, install, key
from allmend.box.owner import Operator

_MOST = 100


@dataclass(frozen=True)
class RequirementSet:
    """What was made ready of a notebook's installs."""

    folders: tuple[str, ...] = ()
    """Package folders to put beneath the run's own layer."""
    left: tuple[str, ...] = ()
    """One sentence for each requirement that the notebook's own cell has to install, with the reason."""


def requirement_set(requirements: Sequence[str], chosen: Environment, operator: Operator) -> RequirementSet:
    """Build (once) the set of what `requirements` add to an environment.

    Only plain names with versions are built ahead (`name`, `name==1.2`). One that cannot be had as a wheel is left
    out by name, and the rest is built without it.
    """
    there = installed(chosen)
    plain = sorted({text for text in requirements if _is_plain(text) and not _satisfied(text, there)})[:_MOST]
    if not plain:
        return RequirementSet()
    name = key(chosen.executable, chosen.sites, chosen.dated, plain, operator.settings)
    folder = cache() / f"set-py{chosen.version}-{name}"
    site, leftovers = folder / "site-packages", folder / "left"
    if not leftovers.exists():
        try:
            left = _build_what_can_be(plain, site, chosen, operator, there)
        except NotInstallable as error:  # the index does not answer: nothing is known, and nothing is kept
            return RequirementSet(left=(f"{', '.join(plain)}: {error.said[:300]}",))
        leftovers.write_text("\n".join(left))
    known = tuple(line for line in leftovers.read_text().split("\n") if line)
    return RequirementSet((str(site),) if site.exists() else (), known)


def _build(plain: Sequence[str], site: Path, chosen: Environment, operator: Operator, there: dict[str, str]) -> None:
    asked = {_name(text) for text in plain}
    # What the profile holds is not fetched again; where its version is too old, the notebook's own cell adds another.
    left_out = [name for name in there if name not in asked]
    install(plain, site, chosen.executable, operator, "what the notebook installs", left_out)


def _build_what_can_be(
    plain: Sequence[str], site: Path, chosen: Environment, operator: Operator, there: dict[str, str]
) -> list[str]:
    """Build the whole set, or else those requirements that can be had by themselves; returns what is left and why.

    Raises `NotInstallable` when the index does not answer.
    """
    try:
        _build(plain, site, chosen, operator, there)
        return []
    except NotInstallable as error:
        if error.for_now:
            raise
        whole = error
    good: list[str] = []
    left: list[str] = []
    for text in plain:
        others = [name for name in there if name != _name(text)]
        try:
            install([text], site, chosen.executable, operator, f"the package {text}", others, only_resolve=True)
            good.append(text)
        except NotInstallable as error:
            if error.for_now:
                raise
            left.append(f"{text} cannot be had as a wheel ({error.said[:200]})")
    if not left:  # each can be had, but not all together
        return [f"{', '.join(plain)} do not fit together ({whole.said[:200]})"]
    if good:
        try:
            _build(good, site, chosen, operator, there)
        except NotInstallable as error:
            left.append(f"{', '.join(good)} do not fit together ({error.said[:200]})")
    return left


def installed(chosen: Environment) -> dict[str, str]:
    """Distribution names (PEP 503) of an environment with their versions."""
    found: dict[str, str] = {}
    for site in chosen.sites:
        for folder in Path(site).glob("*.dist-info"):
            name, _, version = folder.name.removesuffix(".dist-info").partition("-")
            found.setdefault(_name(name), version)
    return found


def _name(text: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[=<>~!\[]", text)[0]).lower()


def _satisfied(text: str, there: dict[str, str]) -> bool:
    """Whether pip would say that a requirement is already there (a name alone, or that very version)."""
    version = there.get(_name(text))
    return version is not None and (text in (f"{_name(text)}=={version}",) or not re.search(r"[=<>~!]", text))


def _is_plain(text: str) -> bool:
    return bool(text) and all(c.isalnum() or c in "._-=<>~!,[]" for c in text) and text[0].isalnum()
