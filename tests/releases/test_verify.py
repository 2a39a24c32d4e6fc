"""Whoever receives a release finds every byte that is not what was made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small

from allmend.errors import InputError, NotFound
from allmend.releases.listing import BOM, SIGNATURE, SIGNER, STATEMENT, SUMS, files_of, write_sums
from allmend.releases.signing import make_key
from allmend.verbs.ship import ship, verify


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed release with all that one can hold; the key beside it."""
    place = tmp_path_factory.mktemp("signed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALLMEND_HOME", str(place / "home"))
        make_key(place / "key")
        ship(small.run(place), merge=True, gguf="bf16", container=True, sign=place / "key", to=place / "out", prompts=2)
    return place / "out"


@pytest.fixture
def release(signed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(signed, tmp_path / "out"))


def test_as_made_nothing_is_wrong(release: Path, signed: Path) -> None:
    found = verify(release, key=signed.parent / "key.pub")
    assert found.problems == []
    assert any("signature" in sentence for sentence in found.checked)
    assert found.not_checked  # never silent about what it did not do


def test_what_a_hub_puts_beside_it_is_named_and_changes_nothing(release: Path, signed: Path) -> None:
    (release / ".gitattributes").write_text("*.safetensors filter=lfs")
    (release / ".cache" / "huggingface").mkdir(parents=True)
    (release / ".cache" / "huggingface" / "CACHEDIR.TAG").write_text("x")
    found = verify(release, key=signed.parent / "key.pub")
    assert found.problems == [] and any(".gitattributes" in sentence for sentence in found.not_checked)
    (release / ".gitattributes2").write_text("x")
    assert not verify(release).ok


def flip(path: Path, place: int) -> bytes:
    data = bytearray(path.read_bytes())
    before = bytes(data)
    data[place] ^= 1
    path.write_bytes(data)
    return before


def test_any_changed_byte_of_any_file_is_found(release: Path) -> None:
    for name in files_of(release):
        path = release / name
        size = path.stat().st_size
        for place in {0, size // 3, size // 2, size - 1}:
            before = flip(path, place)
            found = verify(release)
            assert not found.ok, (name, place)
            path.write_bytes(before)
    assert verify(release).ok


@pytest.mark.parametrize("name", [SIGNATURE, SIGNER, SUMS])
def test_no_byte_of_what_guards_the_rest_is_without_meaning(release: Path, signed: Path, name: str) -> None:
    path = release / name
    size = path.stat().st_size
    for place in range(0, size, max(1, size // 60)):
        before = flip(path, place)
        assert not verify(release, key=signed.parent / "key.pub").ok, place
        path.write_bytes(before)


def test_files_that_are_gone_or_new_are_found(release: Path) -> None:
    (release / "adapter" / "adapter_config.json").unlink()
    (release / "merged" / ".hidden").write_text("more")
    problems = verify(release).problems
    assert "adapter/adapter_config.json: it is missing" in problems
    assert f"merged/.hidden: it is not in {SUMS}" in problems


def test_a_change_made_together_with_its_digests_is_found_by_the_signature(release: Path) -> None:
    card = release / "README.md"
    card.write_text(card.read_text() + "\nIt is twice as good.\n")
    write_sums(release)
    problems = verify(release).problems
    assert problems and all(problem.startswith(SIGNATURE) for problem in problems)


def test_taking_the_signature_away_is_found(release: Path) -> None:
    (release / SIGNATURE).unlink()
    assert any("its signature is gone" in problem for problem in verify(release).problems)


def test_another_s_signature_is_not_taken_for_the_trusted_one(release: Path, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other")
    assert not verify(release, key=other).ok


def test_an_unsigned_release_says_what_that_leaves_open(release: Path) -> None:
    (release / SIGNATURE).unlink()
    (release / SIGNER).unlink()
    text = (release / "release.json").read_text().replace('"signed": true', '"signed": false')
    (release / "release.json").write_text(text)
    write_sums(release)
    found = verify(release)
    assert found.ok and any("not signed" in sentence for sentence in found.not_checked)


def _another_data(value: Any) -> None:
    data = value["predicate"]["buildDefinition"]["resolvedDependencies"][1]
    data["digest"]["sha256"] = "0" * 64


def _named_by_a_number(value: Any) -> None:
    value["predicate"]["buildDefinition"]["resolvedDependencies"][0]["name"] = 7


def _of_kind(value: Any, kind: str) -> Any:
    return next(part for part in value["components"] if part["type"] == kind)


def _hashes_other_than(kind: str) -> Callable[[Any], None]:
    return lambda value: _of_kind(value, kind).update(hashes=[{"alg": "SHA-256", "content": "0" * 64}])


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (STATEMENT, _another_data, "names other data"),
        (STATEMENT, _named_by_a_number, "no statement of lineage"),
        (BOM, lambda value: value.update(components=[]), "does not list adapter/adapter_config.json"),
        (BOM, lambda value: value["components"].remove(_of_kind(value, "file")), "does not list"),
        (BOM, _hashes_other_than("data"), "names other data"),
        (BOM, _hashes_other_than("machine-learning-model"), "names another base"),
        (BOM, lambda value: value["components"].append(7), "no bill of materials"),
        (BOM, lambda value: value.update(components=["text"]), "no bill of materials"),
        (BOM, lambda value: _of_kind(value, "file").update(hashes="no"), "no bill of materials"),
    ],
)
def test_what_the_papers_say_is_held_to_the_release(
    release: Path, name: str, change: Callable[[Any], None], words: str
) -> None:
    value = json.loads((release / name).read_text())
    change(value)
    (release / name).write_text(json.dumps(value))
    write_sums(release)
    problems = verify(release).problems
    assert any(problem.startswith(name) and words in problem for problem in problems), problems


def test_what_is_no_release_is_said_so(tmp_path: Path, release: Path) -> None:
    with pytest.raises(NotFound):
        verify(tmp_path / "nowhere")
    with pytest.raises(NotFound):
        verify(tmp_path)
    (release / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match="no links"):
        verify(release)
