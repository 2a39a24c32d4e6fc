"""Adapters that come and go while the server runs, more of them than slots, and what is counted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from allmend import adapters
from allmend.errors import InputError, UsageError
from allmend.serving.server import Server
from allmend.verbs.serve import ServeSettings, start
from allmend.verbs.serve_engine import load_engine


@pytest.fixture
def shelf(folders: Any, tmp_path: Path) -> Any:
    """A server with one slot for adapters and no memory beside it, which looks for others in a folder."""
    store = stored(folders, tmp_path)
    with start(
        str(folders.base), port=0, dtype="float32", memory="32M", slots=1, adapter_memory=0, adapter_folder=str(store),
        log=True,
    ) as server:  # fmt: skip
        yield server, store


def stored(folders: Any, tmp_path: Path) -> Path:
    store = tmp_path / "store"
    for name in ("a", "b"):
        shutil.copytree(folders.adapters["mine" if name == "a" else "yours"], store / "team" / name)
    return store


def say(server: Server, model: str, **more: Any) -> httpx.Response:
    body = {"model": model, "prompt": "abc", "max_tokens": 6, "temperature": 0, **more}
    return httpx.post(f"{server.url}/v1/completions", json=body, timeout=60)


def text(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["text"])


def test_more_adapters_than_slots_take_turns_and_stay_themselves(shelf: Any, capfd: Any) -> None:
    server, _ = shelf
    base = server.registry.bases()[0].name
    wanted = {name: text(say(server, name)) for name in (base, "team/a", "team/b")}
    assert len(set(wanted.values())) == 3
    for name in ("team/a", "team/b", base, "team/a", f"{base}:team/b", f"{base}::team/a"):
        assert text(say(server, name)) == wanted[name.split(":")[-1]]
    both = [{"id": "team/a"}, {"id": "team/b"}]
    assert text(say(server, base, lora=both)) not in (wanted["team/a"], wanted["team/b"])
    assert server.registry.shelf(base).loaded <= 2
    counts = httpx.get(f"{server.url}/metrics", timeout=120).text
    assert 'allmend_requests_total{route="/v1/completions",status="200"}' in counts
    assert "allmend_adapters_read_back" in counts and "allmend_completion_tokens_total" in counts
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    assert lines and {"id", "path", "status", "seconds"} <= set(lines[0])


def test_adapters_without_a_slot_wait_in_memory(folders: Any, tmp_path: Path) -> None:
    store = stored(folders, tmp_path)
    with start(
        str(folders.base), port=0, dtype="float32", memory="32M", slots=1, adapter_folder=str(store)
    ) as server:  # fmt: skip
        wanted = {name: text(say(server, name)) for name in ("team/a", "team/b")}
        shutil.rmtree(store / "team" / "a")
        for name in ("team/a", "team/b", "team/a"):
            assert text(say(server, name)) == wanted[name]
        held = server.registry.shelf(server.registry.bases()[0].name)
        assert held.reads == 0 and held.loaded == 1
        server.registry.remove_adapter("team/a")
        assert say(server, "team/a").status_code == 404


def test_names_that_lead_elsewhere_find_nothing(shelf: Any) -> None:
    server, store = shelf
    for name in ("../secret", "team/../../x", str(store / "team" / "a"), "nobody", "~/x"):
        answer = say(server, name)
        assert answer.status_code == 404, name
        assert answer.json()["error"]["code"] == "model_not_found"


def test_adapters_are_loaded_and_unloaded_by_route(shelf: Any, folders: Any, tmp_path: Path) -> None:
    server, _ = shelf
    post = lambda route, **body: httpx.post(f"{server.url}/v1/{route}", json=body, timeout=60)
    loaded = post("load_lora_adapter", lora_name="mine", lora_path=str(folders.adapters["mine"]))
    assert loaded.status_code == 200 and "added successfully" in loaded.text
    first = text(say(server, "mine"))
    assert post("load_lora_adapter", lora_name="mine", lora_path=str(folders.adapters["yours"])).status_code == 400
    again = post("load_lora_adapter", lora_name="mine", lora_path=str(folders.adapters["yours"]), load_inplace=True)
    assert again.status_code == 200 and text(say(server, "mine")) != first
    broken = tmp_path / "broken"
    shutil.copytree(folders.adapters["mine"], broken)
    (broken / "adapter_model.safetensors").write_bytes(b"\x00" * 100)
    refused = post("load_lora_adapter", lora_name="broken", lora_path=str(broken))
    assert refused.status_code == 400 and "damaged" in refused.json()["error"]["message"]
    yours = text(say(server, "mine"))
    whole = str(folders.adapters["mine"])
    for status, worse in ((400, {"lora_path": str(broken)}), (404, {"lora_path": whole, "base_model_name": "nobody"})):
        answer = post("load_lora_adapter", lora_name="mine", load_inplace=True, **worse)
        assert answer.status_code == status, answer.text
        assert text(say(server, "mine")) == yours
    assert post("unload_lora_adapter", lora_name="mine").status_code == 200
    assert post("unload_lora_adapter", lora_name="mine").status_code == 404
    assert say(server, "mine").status_code == 404


def test_the_adapter_before_answers_until_the_new_one_was_accepted(
    shelf: Any, folders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, _ = shelf
    registry = server.registry
    mine, yours = (adapters.read(folders.adapters[name]) for name in ("mine", "yours"))
    registry.add_adapter("a", mine)
    engine = registry.bases()[0].engine
    taken = type(engine).add_adapter

    def slow(self: Any, name: str, weights: Any) -> None:
        # While the engine takes it: the old one is found, and what the event loop asks is answered at once.
        assert registry.find("a").adapters[0].digest == mine.digest
        base = registry.bases()[0]
        assert registry.use(base)
        registry.done(base)
        with pytest.raises(UsageError, match="being loaded"):
            registry.remove_adapter("a")
        taken(self, name, weights)

    monkeypatch.setattr(type(engine), "add_adapter", slow)
    registry.add_adapter("a", yours, replace=True)
    assert registry.find("a").adapters[0].digest == yours.digest

    def refusing(self: Any, name: str, weights: Any) -> None:
        raise InputError("it does not fit")

    monkeypatch.setattr(type(engine), "add_adapter", refusing)
    with pytest.raises(InputError):
        registry.add_adapter("a", mine, replace=True)
    assert registry.find("a").adapters[0].digest == yours.digest


def test_an_adapter_that_changed_on_disk_is_not_passed_off_as_the_old_one(shelf: Any, folders: Any) -> None:
    server, store = shelf
    text(say(server, "team/a"))
    text(say(server, "team/b"))
    shutil.copy(
        folders.adapters["yours"] / "adapter_model.safetensors", store / "team" / "a" / "adapter_model.safetensors"
    )
    answer = say(server, "team/a")
    assert answer.status_code == 400 and "no longer" in answer.json()["error"]["message"]
    assert say(server, "team/b").status_code == 200


def test_adapters_that_come_and_go_while_a_model_is_replaced(
    shelf: Any, folders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, store = shelf
    registry, base = server.registry, server.registry.bases()[0].name
    for name in ("team/a", "team/b"):
        say(server, name)
    shutil.copytree(folders.adapters["mine"], store / "changed")
    assert say(server, "changed").status_code == 200
    shutil.copyfile(
        folders.adapters["yours"] / "adapter_model.safetensors", store / "changed" / "adapter_model.safetensors"
    )
    carry = registry._carry

    def meanwhile(adapter: Any, *more: Any) -> bool:
        if adapter.name == "team/a":
            registry.add_adapter("late", adapters.read(folders.adapters["mine"]))
            registry.remove_adapter("team/b")
        return bool(carry(adapter, *more))

    monkeypatch.setattr(registry, "_carry", meanwhile)
    loaded, engine = load_engine(str(folders.base), ServeSettings(dtype="float32", memory=2**25))
    assert set(registry.replace_base(base, loaded, engine)) == {"late", "changed"}
    assert {adapter.name for adapter in registry.adapters()} == {"team/a"}
    assert registry.bases()[0].engine is engine and say(server, "team/a").status_code == 200
    assert say(server, "late").status_code == 404 and say(server, "team/b").status_code == 200  # Looked for anew.


def test_request_ids_are_given_and_kept(server: Server) -> None:
    assert httpx.get(f"{server.url}/health", timeout=120).headers["x-request-id"].startswith("req_")
    kept = httpx.get(f"{server.url}/health", headers={"x-request-id": "mine-1"}, timeout=120)
    assert kept.headers["x-request-id"] == "mine-1"
