"""Control groups of both versions on a made-up tree: the files, their names and values, as the kernel documents them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from allmend.box import cgroups

MiB = 2**20


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Makes `tmp_path` look like a control group file system of a version."""

    def make(version: str) -> Path:
        monkeypatch.setattr(cgroups, "ROOT", tmp_path)
        if version == "v2":
            (tmp_path / "cgroup.controllers").write_text("cpu memory pids")
        for name in cgroups._V1_CONTROLLERS if version == "v1" else ():
            (tmp_path / name).mkdir()
        own = {"v2": tmp_path, "v1": tmp_path}[version]
        monkeypatch.setattr(cgroups, "kind", lambda: version)
        parents = [own] if version == "v2" else [tmp_path / name for name in cgroups._V1_CONTROLLERS]
        monkeypatch.setattr(cgroups, "_parents", lambda _: parents)
        return tmp_path

    yield make


def written(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_version_2_files(tree: Callable[[str], Path]) -> None:
    tree("v2")
    group = cgroups.Group("x")
    group.create(memory=512 * MiB, processes=64, cpus=1.5)
    assert group.trouble == [] and len(group.paths) == 1
    assert written(group.paths[0]) == {
        "memory.max": str(512 * MiB),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": "64",
        "cpu.max": "150000 100000",
    }
    assert group.entries == [str(group.paths[0] / "cgroup.procs")]


def test_version_1_files(tree: Callable[[str], Path]) -> None:
    tree("v1")
    group = cgroups.Group("x")
    group.create(memory=512 * MiB, processes=64, cpus=0.5)
    by_name = {path.parent.name: written(path) for path in group.paths}
    assert by_name == {
        "memory": {"memory.limit_in_bytes": str(512 * MiB)},
        "pids": {"pids.max": "64"},
        "cpu": {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000"},
    }


@pytest.mark.parametrize(
    ("version", "events", "peak"),
    [("v2", "memory.events", "memory.peak"), ("v1", "memory.oom_control", "memory.max_usage_in_bytes")],
)
def test_what_the_kernel_says_about_memory(tree: Callable[[str], Path], version: str, events: str, peak: str) -> None:
    tree(version)
    group = cgroups.Group("x")
    group.create(memory=MiB, processes=None, cpus=None)
    assert group.peak_memory() is None and not group.out_of_memory()
    (group.paths[0] / events).write_text("low 0\noom 0\noom_kill 0\n")
    (group.paths[0] / peak).write_text("4096\n")
    assert group.peak_memory() == 4096 and not group.out_of_memory()
    (group.paths[0] / events).write_text("low 0\noom 3\noom_kill 2\n")
    assert group.out_of_memory()


def test_a_limit_that_cannot_be_set_is_named(tree: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    tree("v2")
    real = Path.write_text

    def refuse(path: Path, text: str, *rest: object) -> int:
        if path.name in ("memory.max", "memory.swap.max"):
            raise PermissionError(13, "Permission denied")
        return real(path, text)

    monkeypatch.setattr(Path, "write_text", refuse)
    group = cgroups.Group("x")
    group.create(memory=MiB, processes=8, cpus=None)
    assert group.trouble == ["memory.max: Permission denied"]  # a kernel without swap accounting is no trouble


def test_the_group_of_version_2_is_a_sibling_of_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cgroup.controllers").write_text("memory")
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    own = Path("/proc/self/cgroup").read_text().strip().rpartition("::")[2].lstrip("/")
    assert cgroups._parents("v2") == [(tmp_path / own).parent if own else tmp_path]
    assert cgroups._parents("v1") == []


def test_two_threads_that_look_at_once_both_find_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids")
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    monkeypatch.setattr(cgroups, "_parents", lambda version: [tmp_path] if version == "v2" else [])
    together = threading.Barrier(2, timeout=60)
    mkdir, rmdir = Path.mkdir, Path.rmdir

    def made(path: Path, *given: object, **more: object) -> None:
        mkdir(path, *given, **more)  # type: ignore[arg-type]
        (path / "memory.max").touch()
        together.wait()

    def removed(path: Path) -> None:
        (path / "memory.max").unlink()
        rmdir(path)

    monkeypatch.setattr(Path, "mkdir", made)
    monkeypatch.setattr(Path, "rmdir", removed)
    look = cgroups.kind.__wrapped__
    with ThreadPoolExecutor(2) as threads:
        assert [each.result(60) for each in [threads.submit(look) for _ in range(2)]] == ["v2", "v2"]
