"""The working folder goes away whatever was written in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from allmend.box.scratch import remove_tree


def _dig(folder: Path, depth: int) -> None:
    """Folders in folders, deeper than any path can name."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


@pytest.mark.parametrize("depth", [3, 2500])
def test_folders_nested_beyond_any_path_are_removed(tmp_path: Path, depth: int) -> None:
    folder = tmp_path / "run"
    (folder / "content").mkdir(parents=True)
    _dig(folder / "content", depth)
    remove_tree(folder)
    assert not folder.exists()


def test_locked_folders_links_and_files_are_removed_and_what_a_link_names_is_not(tmp_path: Path) -> None:
    folder, outside = tmp_path / "run", tmp_path / "kept"
    outside.mkdir(mode=0o755)
    (outside / "letter").write_text("mine")
    inner = folder / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "file").write_text("x")
    (inner / "out").symlink_to(outside)
    (folder / "link").symlink_to(outside / "letter")
    os.mkfifo(folder / "a" / "pipe")
    inner.chmod(0)
    (folder / "a").chmod(0)
    remove_tree(folder)
    assert not folder.exists()
    assert (outside / "letter").read_text() == "mine" and outside.stat().st_mode & 0o777 == 0o755


def test_a_folder_that_is_not_there_is_no_trouble(tmp_path: Path) -> None:
    remove_tree(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
