"""A notebook as an API: typed, queued, followed, stopped, refused where it must be."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

import allmend
from allmend.errors import Refused
from allmend.verbs.app import AppServer


def _ended(client: httpx.Client, address: str) -> dict[str, Any]:
    """The run once it is over."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        run = client.get(address).json()
        if run["ended_at"]:
            return dict(run)
        time.sleep(0.05)
    raise AssertionError(f"still {run['state']}")


def _start(client: httpx.Client, slug: str, /, **parameters: Any) -> httpx.Response:
    return client.post(f"/{slug}/runs", json={"parameters": parameters})


def _events(client: httpx.Client, address: str, **headers: str) -> list[tuple[int, str, dict[str, Any]]]:
    text = client.get(f"{address}/events", headers=headers).text
    parts = [dict(line.split(": ", 1) for line in part.split("\n")) for part in text.strip().split("\n\n")]
    return [(int(part["id"]), part["event"], json.loads(part["data"])) for part in parts if "event" in part]


def test_parameters_go_in_typed_and_outputs_receipt_and_notebook_come_out(client: httpx.Client) -> None:
    started = _start(client, "wave", frequency=7, name='O\'Hara "x"', grid=False, points=[3], colour="red", style="own")
    assert started.status_code == 202
    address = started.headers["location"]
    run = _ended(client, address)
    assert run["state"] == "finished", run
    kinds = [kind for _, kind, _ in _events(client, address)]
    assert kinds[-1] == "ended" and kinds.count("cell_ended") == 4
    text = "".join(data["text"] for _, kind, data in _events(client, address) if kind == "output")
    assert "[7, 'O\\'Hara \"x\"', 'red', 'own', False, '2026-01-31', 100, 0.5, [3]]" in text
    assert run["outputs"] == ["outputs/answer.txt"]
    assert client.get(f"{address}/outputs/outputs/answer.txt").text == 'O\'Hara "x"'
    assert client.get(f"{address}/receipt").json()["ended"] == "finished"
    assert client.get(f"{address}/notebook").json()["nbformat"] == 4


def test_events_are_taken_up_where_they_were_left(client: httpx.Client) -> None:
    address = _start(client, "wave").headers["location"]
    _ended(client, address)
    every = _events(client, address)
    assert _events(client, address, **{"Last-Event-ID": "3"}) == every[4:]
    for odd in ("²", "-1", "9" * 5000, "x"):
        given = httpx.Headers([(b"Last-Event-ID", odd.encode("latin-1"))])
        assert client.get(f"{address}/events", headers=given).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [({"parameters": {"frequncy": 3}}, "frequncy"), ({"parameters": {"frequency": "3"}}, "frequency"), ({"params": {}}, "params"),
     ({"text": {"count": "many"}}, "count"), ({"uploads": "x"}, "uploads")],
)  # fmt: skip
def test_what_the_form_does_not_take_is_refused_by_name(client: httpx.Client, body: dict[str, Any], field: str) -> None:
    answer = client.post("/wave/runs", json=body)
    assert answer.status_code == 422 and list(answer.json()["error"]["fields"]) == [field]


def test_the_description_has_the_typed_body(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    body = paths["/wave/runs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["parameters"]["properties"]["count"] == {
        "type": "integer",
        "default": 100,
        "description": "Settings",
    }


def test_the_same_key_is_the_same_run(client: httpx.Client) -> None:
    answers = [client.post("/wave/runs", json={}, headers={"Idempotency-Key": "one"}).json()["id"] for _ in range(2)]
    assert answers[0] == answers[1]


def test_a_run_is_stopped_and_its_receipt_says_so(client: httpx.Client) -> None:
    address = _start(client, "slow").headers["location"]
    _wait_for(client, address, "output")
    client.post(f"{address}/cancel")
    run = _ended(client, address)
    assert run["state"] == "stopped"
    assert client.get(f"{address}/receipt").json()["ended"] == "interrupted"


def _wait_for(client: httpx.Client, address: str, kind: str) -> None:
    until = time.monotonic() + 120
    while not any(event["event"] == kind for event in _watched(client, address)):
        assert time.monotonic() < until
        time.sleep(0.05)


def _watched(client: httpx.Client, address: str) -> list[dict[str, Any]]:
    """The events so far, without waiting for more."""
    found = []
    try:
        with client.stream("GET", f"{address}/events", timeout=2) as answer:
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    found.append({"event": line[7:]})
    except httpx.TimeoutException:
        pass
    return found


def test_a_line_for_a_cell_goes_in_by_the_api_and_a_secret_one_is_kept_nowhere(client: httpx.Client) -> None:
    address = _start(client, "asks").headers["location"]
    for number, line in enumerate(("Ada\ud83d", "swordfish")):
        until = time.monotonic() + 60
        while (
            client.post(
                f"{address}/answers/{number}",
                content=json.dumps({"line": line}),
                headers={"Content-Type": "application/json"},
            ).status_code
            == 404
        ):
            assert time.monotonic() < until
            time.sleep(0.05)
    assert client.post(f"{address}/answers/1", json={"line": "again"}).status_code == 404
    assert client.post(f"{address}/answers/0", json={"line": 3}).status_code == 422
    assert _ended(client, address)["state"] == "finished"
    executed = client.get(f"{address}/notebook").text
    assert "Ada? knows a word of 9" in executed  # half a pair is no text
    for left in (executed, client.get(f"{address}/events").text, client.get(f"{address}/receipt").text):
        assert "swordfish" not in left


def test_a_run_that_is_stopped_does_not_wait_for_a_line(client: httpx.Client) -> None:
    address = _start(client, "asks").headers["location"]
    _wait_for(client, address, "asked")
    client.post(f"{address}/cancel")
    assert _ended(client, address)["state"] == "stopped"


def test_a_cell_that_fails_is_told(client: httpx.Client) -> None:
    run = _ended(client, _start(client, "wrong").headers["location"])
    assert run["state"] == "failed" and "ZeroDivisionError" in run["why"]


def test_other_sites_other_names_and_other_visitors(server: AppServer, client: httpx.Client) -> None:
    other = {"Origin": "http://evil.example", "Content-Type": "application/json"}
    assert client.post("/wave/runs", content="{}", headers=other).status_code == 403
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 421
    assert client.post("/wave/runs", content="{}", headers={"Content-Type": "text/plain"}).status_code == 400
    mine = _start(client, "wave").json()["id"]
    with httpx.Client(base_url=server.url, timeout=120) as stranger:
        assert mine not in stranger.get("/wave/runs").text
        assert stranger.get("/wave/runs/20260101-000000-000000000000").status_code == 404


@pytest.mark.parametrize("name", ["../run.json", "..%2f..%2frun.json", "outputs/../../receipt.json", "/etc/passwd"])
def test_no_name_leads_out_of_the_outputs(client: httpx.Client, name: str) -> None:
    address = _start(client, "wave").headers["location"]
    assert client.get(f"{address}/outputs/{name}").status_code == 404


def test_outputs_are_shown_as_text_pictures_and_cages(client: httpx.Client) -> None:
    address = _start(client, "wave").headers["location"]
    _ended(client, address)
    shown = client.get(f"{address}/cells/3").text
    assert "<script" not in shown and "onerror=alert" not in shown.replace("&lt;img src=x onerror=alert(1)&gt;", "")
    assert (
        "track.example" in shown
        and 'src="http' not in shown
        and "javascript:" not in shown.replace("(javascript:alert(1))", "")
    )
    assert 'sandbox="allow-scripts"' in shown
    framed = client.get(f"{address}/frames/3/0")
    assert "sandbox allow-scripts" in framed.headers["content-security-policy"]
    assert "connect-src 'none'" in framed.headers["content-security-policy"]


def test_beyond_the_loopback_a_key_is_needed(folder: Path, tmp_path: Path) -> None:
    with allmend.app(folder / "wave.ipynb", yes=True, host="0.0.0.0", port=0, store=tmp_path) as server:
        address, _, key = server.url.partition("/?key=")
        assert len(key) > 20
        with httpx.Client(base_url=address, timeout=120) as client:
            assert client.get("/").status_code == 401 and client.post("/runs", json={}).status_code == 401
            assert client.get(f"/?key={key}").status_code == 200
            assert client.get("/").status_code == 200, "the cookie carries it from then on"


def test_what_is_not_permitted_is_not_served(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"\w+\.ipynb: nobody was asked"):
        allmend.app(folder, port=0, store=tmp_path)
