"""Which level of enforcement a run gets, and why. Nothing is chosen silently; nothing weaker is fallen into.

| level | holds with | reported as |
|---|---|---|
| A | bubblewrap (mount, pid, network, ipc namespaces), Landlock, seccomp | `enforced` |
| B | Landlock from ABI 6 and seccomp; no namespaces | `enforced-reduced` |
| D | nothing, and only when asked for | `none` |
"""

from __future__ import annotations

from typing import Literal

from allmend.box.probe import Machine, probe
from allmend.errors import Unavailable, UsageError
from allmend.nouns.receipt import Enforcement

Level = Literal["A", "B", "D"]
NAMES: dict[Level, Literal["enforced", "enforced-reduced", "none"]] = {
    "A": "enforced",
    "B": "enforced-reduced",
    "D": "none",
}
NEEDED_ABI = 6
"""Landlock ABI that level B cannot do without: scopes for signals and abstract sockets (Linux 6.12)."""

B_LACKS = (
    "other processes of this machine can be listed with their command lines",
    "names, sizes and times of files elsewhere can be asked for (not their content)",
    "no mount namespace: paths are this machine's own, and /content is not there",
    "no shared memory (multiprocessing locks) and no terminals of its own",
    "UDP, and clients that ignore proxy settings, do not work",
    "a local port the notebook opens can be reached by other programs of this machine",
)


def choose(wanted: str | None = None, machine: Machine | None = None) -> tuple[Level, list[str]]:
    """The level for a run and the reasons; `wanted` is A, B, D or None for the best there is.

    Raises `Unavailable` where neither A nor B can be had, or the wanted one cannot.
    """
    if wanted is not None and wanted not in NAMES:
        raise UsageError(f"there is no level {wanted!r}", where="--level", hint="Levels: A, B, D.")
    if wanted == "D":
        return "D", ["asked for: runs without a box"]
    machine = machine or probe()
    lacking_a, lacking_b = machine.lacking_a, lacking_for_b(machine)
    if wanted in (None, "A") and not lacking_a:
        return "A", [f"bubblewrap {machine.bubblewrap} works here", f"Landlock ABI {machine.landlock_abi}"]
    if wanted == "A":
        raise Unavailable(f"level A cannot be had here: {'; '.join(lacking_a)}", hint=machine.how_to_get_a())
    if not lacking_b:
        why = [] if wanted == "B" else [f"level A cannot be had: {reason}" for reason in lacking_a]
        return "B", [*why, f"Landlock ABI {machine.landlock_abi} and seccomp work here"]
    reasons = lacking_b if wanted == "B" else [*lacking_a, *lacking_b]
    raise Unavailable(
        f"this machine cannot hold a notebook to its permissions: {'; '.join(dict.fromkeys(reasons))}",
        hint=machine.how_to_get_a() + " `--unsandboxed` runs it without any protection.",
    )


def lacking_for_b(machine: Machine) -> list[str]:
    """What level B lacks on `machine`, empty when it can be had."""
    lacking = [] if machine.linux else ["level B needs Linux"]
    if machine.linux and machine.landlock_abi < NEEDED_ABI:
        lacking.append(f"level B needs Landlock ABI {NEEDED_ABI} (Linux 6.12), here it is {machine.landlock_abi}")
    if machine.linux and not machine.seccomp_notify:
        lacking.append("level B needs seccomp notifications (Linux 5.5)")
    return lacking


def enforcement(level: Level, why: list[str], machine: Machine, *, uid: int, cgroup: str) -> Enforcement:
    """What the receipt says about enforcement."""
    missing = list(B_LACKS) if level == "B" else ["everything: nothing was enforced"] if level == "D" else []
    return Enforcement(
        level=level,
        name=NAMES[level],
        why=why,
        landlock_abi=machine.landlock_abi if level != "D" else 0,
        bubblewrap=machine.bubblewrap if level == "A" else None,
        cgroup=cgroup,
        uid=uid,
        started_as_root=machine.root,
        missing=missing,
    )
