"""Models and adapters: read by their bytes, never loaded."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import pytest

from allmend.nouns.plan import Plan
from allmend.verbs.plan import plan


def ids(found: Plan) -> dict[str, str]:
    return {finding.id: finding.severity for finding in found.findings}


class Runs:
    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_runs_programs_is_named_and_not_run(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(Runs(str(marker)), protocol))
    found = plan(tmp_path / "w.pkl")
    assert ids(found)["pickle-runs-programs"] == "danger"
    assert not marker.exists()


def test_plain_values_are_only_a_note(tmp_path: Path) -> None:
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"a": [1, 2.0, "b"]}))
    assert ids(plan(tmp_path / "w.pkl")) == {"pickle-format": "note"}


def test_the_pickle_inside_a_torch_archive_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Runs("x")))
        archive.writestr("archive/data/0", b"\0" * 1000)
    assert "pickle-runs-programs" in ids(plan(tmp_path / "w.pt"))


def test_a_zip_bomb_is_read_up_to_a_bound(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"N0" * (100 * 2**20 // 2))
    found = plan(tmp_path / "w.pt")
    assert any("not read" in item.reason or "were read" in item.reason for item in found.unread)


@pytest.mark.parametrize("data", [b"PK\x03\x04broken", b"\x80\x04cut", b"\x80", b"", b"hello"])
def test_broken_files_say_what_was_not_read(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "w.pt").write_bytes(data)
    assert plan(tmp_path / "w.pt").unread


def safetensors(header: dict[str, object], size: int, length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + b"\0" * size


def test_a_good_header_gives_size_and_precision(tmp_path: Path) -> None:
    row = {"dtype": "F16", "shape": [10, 20], "data_offsets": [0, 400]}
    (tmp_path / "m.safetensors").write_bytes(safetensors({"x": row}, 400))
    found = plan(tmp_path / "m.safetensors")
    assert found.findings == []
    assert "F16" in " ".join(found.needs.why)
    assert found.needs.fits is True


@pytest.mark.parametrize(
    "data",
    [
        safetensors({}, 0, 2**60),
        safetensors({"x": {"dtype": "F16", "shape": [10**9], "data_offsets": [0, 4]}}, 4),
        safetensors({"x": {"dtype": "F16", "shape": [2], "data_offsets": [0, 10**12]}}, 4),
        safetensors({"x": {"dtype": "F16", "shape": [-2], "data_offsets": [0, 4]}}, 4),
        b"\1",
    ],
)
def test_a_lying_header_is_a_danger(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.safetensors").write_bytes(data)
    assert ids(plan(tmp_path / "m.safetensors"))["lying-header"] == "danger"


def text(word: str) -> bytes:
    return struct.pack("<Q", len(word.encode())) + word.encode()


def gguf(template: str) -> bytes:
    pair = text("tokenizer.chat_template") + struct.pack("<I", 8) + text(template)
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + pair


def test_a_template_that_reaches_beyond_text(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(gguf("{{ ''.__class__.__mro__[1].__subclasses__() }}"))
    assert ids(plan(tmp_path / "bad.gguf"))["template-beyond-text"] == "danger"
    (tmp_path / "good.gguf").write_bytes(
        gguf("{% for m in messages %}{{ m.role }}: {{ m['content'] | trim }}{% endfor %}")
    )
    assert "template-beyond-text" not in ids(plan(tmp_path / "good.gguf"))


@pytest.mark.parametrize(
    "data", [b"GGUF", b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60), b"GGUF" + struct.pack("<IQQ", 9, 0, 0)]
)
def test_a_gguf_header_that_lies(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.gguf").write_bytes(data)
    assert "lying-header" in ids(plan(tmp_path / "m.gguf"))


def test_a_folder_with_remote_code_base_and_licence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "modeling_odd.OddModel"}}))
    (tmp_path / "modeling_odd.py").write_text("class OddModel: ...")
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-4.0\nbase_model: org/base\n---\n# Odd\n")
    (tmp_path / "model.safetensors").write_bytes(safetensors({}, 0))
    found = plan(tmp_path)
    assert ids(found) == {"remote-code": "warning", "licence-limits": "note"}
    assert [(e.kind, e.target) for e in found.effects] == [("foreign_code", "modeling_odd.py")]
    assert "org/base" in " ".join(found.needs.why)


def test_an_adapter_names_its_base(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "org/base", "peft_type": "LORA"})
    )
    found = plan(tmp_path)
    assert found.subject.kind == "adapter"
    assert ("model", "hf:org/base") in {(e.kind, e.target) for e in found.effects}
    assert ids(found) == {"no-licence": "note"}


class _Program:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("echo no",)


def test_objects_in_numpy_files_are_pickles(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    numpy.save(tmp_path / "o.npy", numpy.array([_Program()], dtype=object), allow_pickle=True)
    numpy.savez(tmp_path / "o.npz", a=numpy.array([_Program()], dtype=object))
    numpy.save(tmp_path / "n.npy", numpy.zeros(3))
    for name in ("o.npy", "o.npz"):
        assert "pickle-runs-programs" in {f.id for f in plan(tmp_path / name).findings}, name
    assert plan(tmp_path / "n.npy").effects == []


@pytest.mark.parametrize(
    "codes",
    [
        # The memo's numbers count everything that was remembered, not only strings.
        b"\x80\x04]\x94\x8c\x0bcollections\x94\x8c\x02os\x94\x8c\x0bOrderedDict\x94\x8c\x06system\x940000h\x02h\x04\x93\x8c\x01x\x85R.",
        # Strings pushed and dropped again before the import.
        b"\x80\x04\x8c\x02os\x8c\x06system\x8c\x0bcollections\x8c\x0bOrderedDict00\x93\x8c\x01x\x85R.",
        # A name that is worked out while it is loaded.
        b"\x80\x04\x8c\x02os)\x93.",
    ],
)
def test_names_that_are_hidden_on_the_stack(tmp_path: Path, codes: bytes) -> None:
    (tmp_path / "w.pkl").write_bytes(codes)
    [finding] = [f for f in plan(tmp_path / "w.pkl").findings if f.severity == "danger"]
    assert finding.id == "pickle-runs-programs"
