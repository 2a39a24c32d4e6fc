"""`apt-get`, `apt` and `sudo` inside the box: packages are fetched and unpacked into the run's own prefix.

No maintainer script runs, no service starts and nothing is registered with dpkg; each is said when it matters.
Fetching
and resolving are apt's own, with private folders, through the box's only way out.
"""

from __future__ import annotations

import glob
import os
import subprocess
import sys

PREFIX = os.path.join(os.environ.get("VIRTUAL_ENV", "/env"), "apt")
LOCKED = os.environ.get("ALLMEND_LOCKED_DEBS", "")
"""The folder of locked packages, when the run is held to a lock."""
_DONE_ALREADY = {"autoremove", "autoclean", "clean", "upgrade", "dist-upgrade", "full-upgrade"}
_PASSED_ON = {"list", "show", "search", "policy", "depends", "rdepends"}


def main(name: str, arguments: list[str]) -> int:
    """Run as `name` (`apt-get`, `apt`, `sudo`) with `arguments`; returns the exit status."""
    if name == "sudo":
        return sudo(arguments)
    words = [word for word in arguments if not word.startswith("-")]
    if "-o" in arguments:
        words = [word for word in words if "::" not in word]
    if not words:
        print("apt inside the box: install, update, download, show, search, list", file=sys.stderr)
        return 0 if not arguments or "--version" in arguments or "--help" in arguments else 100
    command, packages = words[0], words[1:]
    if LOCKED and command in ("update", "install", "reinstall"):
        return 0 if command == "update" else install_locked(packages)
    if command == "update":
        return _apt(["update", "-qq"])
    if command in ("install", "reinstall", "build-dep"):
        return install(packages) if command != "build-dep" else _cannot("build-dep")
    if command in _DONE_ALREADY:
        print(f"apt inside the box: {command} has nothing to do; the system beneath is read-only")
        return 0
    if command in _PASSED_ON:
        return _apt([command, *packages], tool="apt-cache" if command != "list" else "apt")
    if command in ("remove", "purge"):
        return _cannot(command)
    return _cannot(command)


def sudo(arguments: list[str]) -> int:
    """Run the command as we are: nothing inside has more rights."""
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option in ("-u", "-g", "-h", "-p", "-C", "-r", "-t") and rest:
            rest.pop(0)
        if option == "--":
            break
    environment = dict(os.environ)
    while rest and "=" in rest[0].split("/")[0]:
        key, _, value = rest.pop(0).partition("=")
        environment[key] = value
    if not rest:
        return 0
    try:
        os.execvpe(rest[0], rest, environment)
    except OSError as error:
        print(f"sudo: {rest[0]}: {error.strerror}", file=sys.stderr)
    return 1


def install(packages: list[str]) -> int:
    """Fetch packages with what they need and unpack them."""
    local = [package for package in packages if package.endswith(".deb")]
    named = [package for package in packages if not package.endswith(".deb")]
    if named:
        if not glob.glob(f"{PREFIX}/lists/*Packages*") and _apt(["update", "-qq"]) != 0:
            return 100
        status = _apt(["install", "-y", "-qq", "--download-only", "--no-install-recommends", *named])
        if status != 0:
            return status
    return install_archives([*local, *sorted(glob.glob(f"{PREFIX}/cache/archives/*.deb"))], packages)


def install_archives(archives: list[str], packages: list[str]) -> int:
    """Unpack package files into the run's own prefix."""
    os.makedirs(f"{PREFIX}/root", exist_ok=True)
    scripts = []
    for archive in archives:
        if subprocess.run(["dpkg-deb", "-x", archive, f"{PREFIX}/root"], check=False).returncode != 0:
            print(f"apt inside the box: {os.path.basename(archive)} could not be unpacked", file=sys.stderr)
            return 100
        shown = subprocess.run(["dpkg-deb", "-I", archive], capture_output=True, text=True, check=False).stdout
        if " postinst " in shown.replace("\t", " "):
            scripts.append(os.path.basename(archive).partition("_")[0])
        print(f"Unpacked {os.path.basename(archive)}")
        if archive.startswith(PREFIX):
            os.unlink(archive)
    if not archives:
        print("Already there: " + ", ".join(packages))
    if scripts:
        print("Not done: the set-up scripts of " + ", ".join(scripts) + " (no maintainer script runs in the box).")
    return 0


def install_locked(packages: list[str]) -> int:
    """Unpack what the lock holds; what it does not hold is refused."""
    with open(f"{LOCKED}/locked") as file:
        there = dict(line.split() for line in file)
    for package in packages:
        name, _, version = package.partition("=")
        if name.endswith(".deb"):
            return install_archives([name], packages)
        if name.lower() not in there or (version and there[name.lower()] != version):
            print(f"allmend: {package} is not in the lock of this notebook; lock it again", file=sys.stderr)
            return 100
    archives = sorted(glob.glob(f"{LOCKED}/*.deb"))
    return install_archives(archives, packages)


def _cannot(what: str) -> int:
    print(f"apt inside the box: {what} cannot be done here", file=sys.stderr)
    return 100


def _apt(arguments: list[str], tool: str = "apt-get") -> int:
    for name in ("lists/partial", "cache/archives/partial", "root", "etc"):
        os.makedirs(f"{PREFIX}/{name}", exist_ok=True)
    options = {
        "Dir::State::lists": f"{PREFIX}/lists",
        "Dir::Cache": f"{PREFIX}/cache",
        "Dir::Log": f"{PREFIX}/cache",
        "Dir::State::extended_states": f"{PREFIX}/cache/extended_states",
        "Dir::Etc::preferencesparts": f"{PREFIX}/etc",
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
        "Dpkg::Use-Pty": "0",
    }
    # Where its folder of settings is has to be known before the command line is read.
    with open(f"{PREFIX}/apt.conf", "w") as file:
        file.write(f'Dir::Etc::parts "{PREFIX}/etc";\n')
    command = [f"/usr/bin/{tool}"]
    for key, value in options.items():
        command += ["-o", f"{key}={value}"]
    try:
        environment = {**os.environ, "APT_CONFIG": f"{PREFIX}/apt.conf"}
        return subprocess.run([*command, *arguments], check=False, env=environment).returncode
    except OSError as error:
        print(f"apt inside the box: this machine has no {tool} ({error.strerror})", file=sys.stderr)
        return 100


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
