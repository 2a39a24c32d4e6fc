"""Every weight of a merged folder beside `W + scale * B A`, computed anew, and the cause when they differ."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from allmend.errors import AllmendError
from allmend.nouns.release import Breach
from allmend.releases.causes import breach
from allmend.releases.expected import Expected
from allmend.releases.merge import owners_of, update
from allmend.releases.safetensors_stream import Entry, raw, shards, tensor

_EMBEDDINGS = ("embed_tokens.weight", "lm_head.weight", "wte.weight")
_ROUNDING = {"BF16": 2.0**-8, "F16": 2.0**-11, "F32": 2.0**-22}
"""Half of the last place, as a share."""


@dataclass
class _Seen:
    """What differs."""

    untouched: list[str] = field(default_factory=list)
    touched: list[str] = field(default_factory=list)
    strengths: list[float] = field(default_factory=list)
    explained: int = 0
    coarse: int = 0
    overflow: list[str] = field(default_factory=list)
    dtypes: list[str] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)


def weights(artefact: str, folder: Path, expected: Expected) -> list[Breach]:
    """Compare tensor by tensor; one in memory at a time."""
    try:
        made = {entry.name: (shard.path, entry) for shard in shards(folder) for entry in shard.entries}
    except AllmendError as error:
        return [breach(artefact, "truncated", f"its weights cannot be read: {error.message}", error.where or "")]
    base_files = shards(expected.base)
    base = {entry.name: (shard.path, entry) for shard in base_files for entry in shard.entries}
    owners = owners_of(base_files, expected.weights)
    found = _names(artefact, made, base)
    seen = _Seen()
    for name in sorted(made.keys() & base.keys()):
        if made[name][1].shape == base[name][1].shape:
            _one(name, made[name], base[name], owners.get(name), expected, seen)
    return found + _judged(artefact, seen, len(owners), len(base) - len(owners))


def _names(artefact: str, made: dict[str, Any], base: dict[str, Any]) -> list[Breach]:
    found = []
    for name in sorted(made.keys() ^ base.keys()):
        if name == "lm_head.weight":
            source = next((made[other] for other in made if other.endswith("embed_tokens.weight")), None)
            if name in made and source is not None and _same(made[name], source):
                continue  # an exact copy of what it was tied to
            words = "it has an output head of its own where the base ties it to the embedding"
            if name not in made:
                words = "its output head is gone: the base has one that is not tied to the embedding"
            found.append(breach(artefact, "tied", words, name))
        else:
            words = "it has a tensor that the base lacks" if name in made else "a tensor of the base is gone"
            found.append(breach(artefact, "weights", words, name))
    for name in sorted(made.keys() & base.keys()):
        here, there = made[name][1].shape, base[name][1].shape
        if here != there:
            cause = "vocabulary" if name.endswith(_EMBEDDINGS) else "weights"
            found.append(breach(artefact, cause, f"{name} has another shape than in the base", f"{there} → {here}"))
    return found


def _same(a: tuple[Path, Entry], b: tuple[Path, Entry]) -> bool:
    if (a[1].dtype, a[1].size) != (b[1].dtype, b[1].size):
        return False
    with a[0].open("rb") as first, b[0].open("rb") as second:
        return all(x == y for x, y in zip(raw(first, a[1]), raw(second, b[1]), strict=True))


def _one(
    name: str, made: tuple[Path, Entry], base: tuple[Path, Entry], module: str | None, expected: Expected, seen: _Seen
) -> None:
    if made[1].dtype != base[1].dtype:
        seen.dtypes.append(f"{name}: {base[1].dtype} became {made[1].dtype}")
    if module is None:
        if not _same(made, base):
            _untouched(name, made, base, seen)
        return
    with made[0].open("rb") as file:
        here = tensor(file, made[1]).float()
    if not here.isfinite().all():
        seen.overflow.append(name)
        return
    with base[0].open("rb") as file:
        before = tensor(file, base[1]).float()
    change = update(expected.weights, module, before)
    step = _ROUNDING.get(made[1].dtype, 2.0**-8)
    wanted = before + change
    # Rounding moves each number by half a place of its own; their norms add up likewise.
    slack = 1.2 * step * float(wanted.norm()) + 1e-12
    off = float((here - wanted).norm())
    if off <= slack:
        return
    seen.touched.append(name)
    seen.errors.append(off / float(wanted.norm()))
    moved = here - before
    strength = float((moved * change).sum() / (change * change).sum().clamp_min(1e-30))
    rest = float((moved - strength * change).norm())
    if rest <= 1.5 * slack:
        seen.explained += 1
        seen.strengths.append(strength)
    seen.coarse += _is_coarse(here) and not _is_coarse(wanted)


def _untouched(name: str, made: tuple[Path, Entry], base: tuple[Path, Entry], seen: _Seen) -> None:
    with made[0].open("rb") as first, base[0].open("rb") as second:
        here, there = tensor(first, made[1]), tensor(second, base[1])
    if not here.isfinite().all():
        seen.overflow.append(name)
    elif here.dtype != there.dtype:
        step = _ROUNDING.get(made[1].dtype, 2.0**-8)
        if float((here.float() - there.float()).norm()) > 1.5 * step * float(there.float().norm()):
            seen.untouched.append(name)
    else:
        seen.untouched.append(name)
        seen.errors.append(float((here.float() - there.float()).norm() / there.float().norm().clamp_min(1e-30)))


def _is_coarse(values: Any, width: int = 32) -> bool:
    """Whether most blocks of 32 numbers hold no more values than 4 bits can name."""
    rows = values.reshape(-1)[: 512 * width].reshape(-1, width)
    distinct = (rows.sort(dim=1).values.diff(dim=1) != 0).sum(dim=1) + 1
    return bool((distinct <= 16).float().mean() > 0.8)


def _judged(artefact: str, seen: _Seen, owners: int, others: int) -> list[Breach]:
    found = []
    if seen.overflow:
        words = f"{len(seen.overflow)} tensors hold infinite or undefined numbers"
        return [breach(artefact, "overflow", words, seen.overflow[0])]
    if seen.dtypes:
        found.append(
            breach(artefact, "dtype", f"{len(seen.dtypes)} tensors are stored in another format", seen.dtypes[0])
        )
    if not seen.touched and not seen.untouched:
        return found
    largest = max(seen.errors, default=0.0)
    evidence = (
        f"{len(seen.touched)} of {owners} adapted and {len(seen.untouched)} of {others} other tensors differ, "
        f"by up to {largest:.2%} of their norm"
    )
    if seen.touched and seen.explained == len(seen.touched) and not seen.untouched:
        mean = sum(seen.strengths) / len(seen.strengths)
        words = f"the adapter acts with {mean:.2f} times its strength"
        if abs(mean) < 0.02:
            words = "the adapter was not merged into these weights"
        found.append(breach(artefact, "alpha", words, evidence))
    elif seen.coarse > len(seen.touched) / 2:
        words = "its weights went through 4 bits after the adapter was added"
        found.append(breach(artefact, "requantised", words, evidence))
    elif seen.untouched and (len(seen.untouched) > others / 2 or len(seen.touched) > owners / 2):
        found.append(breach(artefact, "base", "it was made from another base", evidence))
    elif any(name.endswith(_EMBEDDINGS) for name in seen.untouched) and not seen.touched:
        found.append(breach(artefact, "tied", "its embedding or output head is not the base's", evidence))
    elif largest < 0.2:
        words = "its weights were rounded more coarsely than the base's format"
        found.append(breach(artefact, "requantised", words, evidence))
    else:
        found.append(breach(artefact, "weights", "its weights are not base plus adapter", evidence))
    return found
