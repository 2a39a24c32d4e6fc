"""`pip install` of a locked run: what is in the lock is there already, anything else is refused.

Runs inside the box with the standard library and what lies in the environment; it is a courtesy to the notebook, not
a wall: without it, pip would find no index to install from.
"""

import importlib.util
import json
import os
import re
import sys

_VALUED = {
    "-r", "--requirement", "-c", "--constraint", "-e", "--editable", "-f", "--find-links", "-i", "--index-url",
    "--extra-index-url", "-t", "--target", "--prefix", "--root", "--platform", "--python-version", "--trusted-host",
    "--timeout", "--default-timeout", "--proxy", "--src", "--upgrade-strategy", "--progress-bar", "--no-binary",
    "--only-binary", "--config-settings", "-C", "--global-option", "--cache-dir", "--log", "--python", "--report",
    "--torch-backend", "-p", "--root-user-action", "--exclude-newer", "--index-strategy", "--index", "--default-index",
    "--prerelease", "--retries", "--exists-action", "--cert", "--client-cert", "--link-mode", "-P", "--upgrade-package",
}  # fmt: skip


def main(args=None):
    """As pip's own entrance: returns the exit status."""
    words = list(sys.argv[1:] if args is None else args)
    verb = next((word for word in words if not word.startswith("-")), "")
    if verb != "install":
        return _real(words)
    lock = _lock()
    status = 0
    for text, editable in _requirements(words[words.index("install") + 1 :]):
        if editable or _is_path(text):
            status = status or _folder(text, editable)
        else:
            status = status or _one(text, lock)
    return status


def _lock():
    place = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    with open(os.path.join(place, "locked.json")) as file:
        return json.load(file)


def _real(words):
    import pip

    path = os.path.join(pip.__path__[-1], "_internal", "cli", "main.py")
    if len(pip.__path__) < 2:
        print("allmend: there is no pip in this environment", file=sys.stderr)
        return 1
    spec = importlib.util.spec_from_file_location("pip._internal.cli._main", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main(words)


def _requirements(words):
    """(requirement, editable) of an install command, requirements files read."""
    at = 0
    while at < len(words):
        word = words[at]
        head, sign, tail = word.partition("=")
        if word in ("-r", "--requirement", "-e", "--editable") and at + 1 < len(words):
            yield from _valued(word, words[at + 1])
            at += 2
        elif sign and head in ("--requirement", "--editable"):
            yield from _valued(head, tail)
            at += 1
        elif word.startswith("-r") and len(word) > 2 and not word.startswith("--"):
            yield from _file(word[2:])
            at += 1
        elif word.startswith("-"):
            at += 2 if word in _VALUED else 1
        elif at + 2 < len(words) and words[at + 1] in ("@", "==", ">=", "<=", "<", ">", "~="):
            yield " ".join(words[at : at + 3]), False
            at += 3
        else:
            yield word, False
            at += 1


def _valued(option, value):
    if option in ("-r", "--requirement"):
        yield from _file(value)
    else:
        yield value, True


def _file(path, depth=0):
    if re.match(r"https?://", path):
        return  # its lines were read when the lock was made
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(2**22)
    except OSError as error:
        print(f"ERROR: Could not open requirements file: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    for raw in re.sub(r"\\\r?\n", " ", text).splitlines():
        line = re.sub(r"(?:^|\s)#.*$", "", raw).strip()
        head, _, rest = line.partition(" ")
        if head in ("-r", "--requirement") and depth < 5:
            yield from _file(os.path.join(os.path.dirname(path), rest.strip()), depth + 1)
        elif head in ("-e", "--editable"):
            yield rest.strip(), True
        elif line and not line.startswith("-"):
            yield re.split(r"\s--(?:hash|config-settings)", line)[0].strip(), False


def _is_path(text):
    return text.startswith((".", "/", "~")) or (
        os.path.isdir(text.partition("[")[0])
        and "/" in text + "/"
        and (
            os.path.exists(os.path.join(text.partition("[")[0], "setup.py"))
            or os.path.exists(os.path.join(text.partition("[")[0], "pyproject.toml"))
        )
    )


def _folder(text, editable):
    """A folder of the workspace: what it needs is in the lock, so nothing is fetched for it."""
    options = ["install", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", "-q"]
    return _real([*options, *(["-e"] if editable else []), text])


def _one(text, lock):
    if f"pip {text}" in lock["asks"] or text in lock["asks"]:
        name = _name(text)
        version = lock["packages"].get(name or "", "")
        print(f"Requirement already satisfied (locked): {text}" + (f" ({version})" if version else ""))
        return 0
    name = _name(text)
    version = lock["packages"].get(name or "")
    if version is None:
        print(
            f"allmend: {text} is not in the lock of this notebook, so it is not installed in a locked run.\n"
            "Write it out in the notebook and run `allmend lock` again.",
            file=sys.stderr,
        )
        return 1
    if not _fits(text, version):
        print(f"allmend: the lock holds {name} {version}, and {text!r} asks for another.", file=sys.stderr)
        return 1
    print(f"Requirement already satisfied (locked): {name} ({version})")
    return 0


def _name(text):
    match = re.match(r"\s*([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)\s*(?=$|[\[=<>!~;@(,])", text)
    return re.sub(r"[-_.]+", "-", match[1]).lower() if match else None


def _fits(text, version):
    try:
        from pip._vendor.packaging.requirements import Requirement

        return Requirement(text).specifier.contains(version, prereleases=True)
    except Exception:  # no real pip beneath, or a line that only pip's own parser takes
        pins = re.findall(r"==\s*([^\s,;]+)", text)
        return all(pin == version for pin in pins)
