"""From a reference to a model: folders with all that can be wrong with them, and hub names over loopback."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFType, GGUFWriter
from safetensors.torch import load_file, save_file

import tiny
from allmend.errors import AllmendError, InputError, NotFound, Unavailable, UsageError
from allmend.models import resolve
from allmend.models.gguf import converted
from allmend.models.loading import load, load_tokenizer


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny.model("llama").save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Tiny\n")
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to break."""
    monkeypatch.setenv("ALLMEND_HOME", str(tmp_path / "home"))
    return Path(shutil.copytree(whole, tmp_path / "tiny"))


def edit(path: Path, **changes: Any) -> None:
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def test_a_folder_is_known_and_loaded(folder: Path) -> None:
    model = resolve(str(folder))
    assert (model.source, model.format, model.licence) == ("folder", "safetensors", "mit")
    assert model.size == (folder / "model.safetensors").stat().st_size
    loaded = load(model, "float32")
    assert loaded.context == 512 and loaded.template is None and not loaded.model.training
    assert not any(weight.requires_grad for weight in loaded.model.parameters())
    assert {choice.name for choice in loaded.choices} == {"device", "dtype", "threads"}
    ids = torch.tensor([[1, 2, 3]])
    with torch.inference_mode():
        assert torch.equal(loaded.model(ids).logits, tiny.model("llama")(ids).logits)
    assert load_tokenizer(model).eos_token == "<end>"
    with pytest.raises(UsageError, match="float61"):
        load(model, "float61")


def test_the_digest_is_of_what_makes_the_model(folder: Path) -> None:
    before = resolve(str(folder)).digest
    (folder / "notes.log").write_text("x")
    assert resolve(str(folder)).digest == before
    tensors = {name: value.clone() for name, value in load_file(folder / "model.safetensors").items()}
    next(iter(tensors.values())).view(-1)[0] += 1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert resolve(str(folder)).digest != before


def drop(*names: str) -> Any:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


def two_ggufs(folder: Path) -> None:
    drop("config.json", "model.safetensors")(folder)
    for name in "ab":
        (folder / f"{name}.gguf").write_bytes(b"GGUF")


def text(name: str, content: bytes) -> Any:
    return lambda folder: (folder / name).write_bytes(content)


def short(name: str, keep: int) -> Any:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:keep])


def config(**changes: Any) -> Any:
    return lambda folder: edit(folder / "config.json", **changes)


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (drop("config.json"), InputError, r"no config\.json"),
        (drop("model.safetensors"), InputError, "no .safetensors"),
        (drop("tokenizer.json"), InputError, "no tokenizer"),
        (pickled, InputError, "can run code"),
        (adapter, InputError, "holds an adapter"),
        (two_ggufs, InputError, "2 .gguf files"),
        (config(auto_map={"AutoModelForCausalLM": "code.Model"}), Unavailable, "its own Python code"),
        (text("config.json", b"{"), InputError, "configuration cannot be read"),
        (text("config.json", b"[1]"), InputError, "not an object"),
        (text("config.json", b"\xff\xfe{}"), InputError, "configuration cannot be read"),
        (text("config.json", b"[" * 50_000), InputError, "configuration cannot be read"),
    ],
)
def test_a_folder_that_is_no_model(folder: Path, change: Any, kind: type[AllmendError], said: str) -> None:
    change(folder)
    with pytest.raises(kind, match=said) as caught:
        resolve(str(folder))
    assert str(folder) in (caught.value.where or "")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (config(hidden_size=64), "weights|shape|size"),
        (config(num_hidden_layers=3), "missing"),
        (config(vocab_size=999), "weights|shape|size"),
        (config(num_attention_heads=7), "model"),
        (config(model_type="nothing-like-it"), "model"),
        (config(model_type=None, architectures=None), "model"),
        (config(hidden_size="many"), "model"),
        (config(torch_dtype="nonsense", dtype="nonsense"), "model"),
        (short("model.safetensors", 1000), "model"),
        (short("model.safetensors", 0), "model"),
        (text("model.safetensors", b"\xff" * 400), "model"),
        (short("tokenizer.json", 100), "tokenizer"),
        (text("tokenizer.json", b"{}"), "tokenizer"),
    ],
)
def test_a_model_that_lies_is_told_when_loaded(folder: Path, change: Any, said: str) -> None:
    change(folder)
    with pytest.raises(InputError, match=said):
        load(resolve(str(folder)), "float32")


def test_a_tokenizer_larger_than_the_vocabulary_is_told(folder: Path) -> None:
    larger = tiny.tokenizer()
    larger = type(larger).from_pretrained(folder)
    larger.add_tokens(["<one more>"])
    larger.save_pretrained(folder)
    with pytest.raises(InputError, match="vocabulary ends at 319"):
        load(resolve(str(folder)), "float32")


@pytest.mark.parametrize("content", [b"", b"GG", b"GGML\0\0\0\0", b"PK\3\4"])
def test_what_is_no_gguf(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(InputError, match="not a GGUF"):
        resolve(str(tmp_path / "m.gguf"))


def test_a_gguf_that_is_an_adapter_is_no_model(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "mine.gguf", "llama")
    writer.add_type(GGUFType.ADAPTER)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(InputError, match="an adapter, not a model"):
        resolve(str(tmp_path / "mine.gguf"))


@pytest.mark.parametrize("content", [b"GGUF", b"GGUF\3\0\0\0" + b"\xff" * 16, b"GGUF\3\0\0\0" + b"\0" * 64])
def test_a_cut_gguf_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: Any, content: bytes) -> None:
    monkeypatch.setenv("ALLMEND_HOME", str(tmp_path / "home"))
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        converted(resolve(str(tmp_path / "m.gguf")))
    assert [path for path in (tmp_path / "home/converted").iterdir() if path.suffix != ".lock"] == []


COMMIT = hashlib.sha1(b"tiny").hexdigest()


class Hub(BaseHTTPRequestHandler):
    """The routes of the Hub API that a snapshot needs: `owner/tiny` at `main` and `v1`."""

    folder: Path

    def log_message(self, *words: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        if "owner/gated" in path:
            return self.error(403, "GatedRepo")
        if "owner/tiny" not in path:
            return self.error(404, "RepoNotFound")
        if not any(
            f"/{name}" in path for name in ("revision/main", "revision/v1", f"resolve/{COMMIT}", f"tree/{COMMIT}")
        ):
            return self.error(404, "RevisionNotFound")
        if path.startswith("/api/"):
            files = [{"rfilename": file.name} for file in sorted(self.folder.iterdir())]
            listed = [{"type": "file", "path": file["rfilename"], "size": 1, "oid": "0"} for file in files]
            value = listed if "/tree/" in path else {"id": "owner/tiny", "sha": COMMIT, "siblings": files}
            return self.send(json.dumps(value).encode(), body)
        file = self.folder / path.rpartition("/")[2]
        return self.send(file.read_bytes(), body) if file.is_file() else self.error(404, "EntryNotFound")

    def send(self, content: bytes, body: bool) -> None:
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def error(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def hub(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Hub,), {"folder": folder}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


ASK = """
import sys, json
from allmend.errors import AllmendError
from allmend.models import resolve
found = []
for ref in sys.argv[1:]:
    try:
        model = resolve(ref)
        found.append([model.name, model.revision, model.licence, str(model.path)])
    except AllmendError as error:
        found.append([type(error).__name__, error.message])
print(json.dumps(found))
"""


def asked(cache: Path, *refs: str, **more: str) -> list[Any]:
    """What `resolve` gives in a process of its own: the hub's client reads its variables when it is imported."""
    environment = {
        **os.environ,
        "HF_HOME": str(cache),
        "HF_HUB_OFFLINE": "0",
        "NO_PROXY": "*",
        "HF_HUB_DISABLE_XET": "1",
    }
    environment.pop("HF_TOKEN", None)
    answer = subprocess.run(
        [sys.executable, "-c", ASK, *refs],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env=environment | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"} | more,
    )
    assert answer.returncode == 0, answer.stderr
    return list(json.loads(answer.stdout))


def test_hub_names_by_the_endpoint_of_the_variable(whole: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with hub(whole) as host:
        here, pinned, other, no_such, no_revision, gated = asked(
            cache, "owner/tiny", "owner/tiny@v1", f"hub://{host}/owner/tiny", "owner/nothing", "owner/tiny@v9",
            "owner/gated", HF_ENDPOINT=f"http://{host}",
        )  # fmt: skip
    assert here[:3] == ["owner/tiny", COMMIT, "mit"] and (Path(here[3]) / "model.safetensors").is_file()
    assert pinned[:2] == ["owner/tiny@v1", COMMIT] and other[1] == COMMIT
    assert no_such[0] == "NotFound" and "owner/nothing" in no_such[1]
    assert no_revision[0] == "NotFound" and "v9" in no_revision[1]
    assert gated[0] == "Refused" and "licence" in gated[1]
    # What is in the cache does without the hub; what is not says so.
    offline = asked(cache, "owner/tiny", "owner/other", HF_HUB_OFFLINE="1")
    assert offline[0][:2] == ["owner/tiny", COMMIT]
    assert offline[1][0] == "NotFound" and "not in the local cache" in offline[1][1]
    gone = asked(cache, "owner/other", HF_ENDPOINT="http://127.0.0.1:9")
    assert gone[0][0] in ("NotFound", "FetchError")


def test_a_missing_catalogue_name_is_not_found() -> None:
    with pytest.raises(NotFound):
        resolve("gemma-3-270n")
