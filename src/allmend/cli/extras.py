"""What to install when a module is missing: the extra of this package that the verb at hand needs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OF_VERB = {
    "tour": "serve", "app": "apps", "data": "tune", "tune": "tune", "verdict": "tune", "benchmark": "benchmarks",
    "ship": "ship", "chat": "serve", "serve": "serve", "index": "documents", "hub": "hub",
}  # fmt: skip
"""Verb: the extra with everything that it ever imports; what is not here needs the base alone."""

_PACKAGES = {
    "av": "av", "cyclonedx": "cyclonedx-python-lib", "lm_eval": "lm-eval", "markdown_it": "markdown-it-py",
    "multipart": "python-multipart", "OpenSSL": "pyopenssl", "piper": "piper-tts", "starlette": "fastapi",
    "yaml": "pyyaml",
}  # fmt: skip
"""Module: package, where they differ by more than a hyphen."""


def extra_for(module: str, verb: str) -> str | None:
    """The extra that brings a module: the verb's own if it does, else the smallest that does; None where none does."""
    package = canonicalize_name(_PACKAGES.get(module, module))
    brings = _closures()
    own = OF_VERB.get(verb, "")
    if package in brings.get(own, ()):
        return own
    able = [extra for extra, packages in brings.items() if package in packages]
    return min(able, key=lambda extra: (len(brings[extra]), extra), default=None)


def _closures() -> dict[str, set[str]]:
    """Extra: the packages it names, itself or by way of another extra; as in pyproject.toml, in its order."""
    try:
        lines = requires("allmend") or []
    except PackageNotFoundError:  # run from its source
        return {}
    named: dict[str, set[str]] = {}
    joined: dict[str, set[str]] = {}
    for requirement in map(Requirement, lines):
        if (extra := _extra(requirement)) is None:
            continue
        named.setdefault(extra, set())
        name = canonicalize_name(requirement.name)
        if name == "allmend":
            joined.setdefault(extra, set()).update(requirement.extras)
        else:
            named[extra].add(name)
    for extra in named:
        waiting, seen = [extra], set()
        while waiting:
            one = waiting.pop()
            if one not in seen:
                seen.add(one)
                waiting += joined.get(one, ())
        named[extra] = set().union(*(named.get(one, set()) for one in seen))
    return named


def _extra(requirement: Requirement) -> str | None:
    """The extra that a line of the metadata belongs to; its marker says `extra == "name"`."""
    text = str(requirement.marker or "")
    _, found, rest = text.partition("extra == ")
    return rest.strip("\"' )").partition('"')[0].partition("'")[0] if found else None
