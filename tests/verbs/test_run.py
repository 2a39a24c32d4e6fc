"""From a plan to permissions to a receipt: what is asked, what is refused, what is told."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from allmend import runs
from allmend.errors import DangerousPlan, InputError, NotFound, Refused, UsageError
from allmend.nouns.plan import Effect, Finding, FormParameter, HostUse, Plan, Subject
from allmend.nouns.receipt import Receipt
from allmend.verbs import run as verb
from allmend.verbs.run import RunSettings


@pytest.fixture(autouse=True)
def own_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the records of these runs apart from the person's own."""
    monkeypatch.setenv("ALLMEND_HOME", str(tmp_path / "home"))


CELLS = [
    'prompt = "a dog"  #@param {type:"string"}\ncount = 1  #@param {type:"integer"}',
    "print(prompt, count + 1)",
    "import os\nos.makedirs('outputs', exist_ok=True)\nopen('outputs/out.txt', 'w').write(prompt)",
]


def notebook(folder: Path, cells: list[str] = CELLS) -> Path:
    made = [
        {"cell_type": "code", "source": c, "metadata": {"trusted": True}, "outputs": [], "execution_count": None}
        for c in cells
    ]
    path = folder / "nb.ipynb"
    path.write_text(json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    return path


def plan_for(path: Path, **fields: Any) -> Plan:
    forms = [
        FormParameter(name="prompt", type="string", default="a dog", cell=0, line=1),
        FormParameter(name="count", type="integer", default=1, cell=0, line=2),
    ]
    return Plan(subject=Subject(kind="notebook", path=str(path), sha256="0" * 64), parameters=forms, **fields)


def settings(**values: Any) -> RunSettings:
    return RunSettings.of({"profile": "this", **values})


def run(path: Path, plan: Plan, **values: Any) -> Receipt:
    prepared = verb.prepare(path, settings(**values), plan)
    return verb.carry_out(prepared, verb.agreed(prepared))


HUB = [HostUse(host="huggingface.co", family="model hub")]
STRANGER = [HostUse(host="stranger.example")]
SECRET = [Effect(kind="credential", target="secret:HF_TOKEN", cell=1, line=1)]
DANGER = [
    Finding(
        id="remote-script",
        severity="danger",
        title="runs a fetched script",
        cells=[1],
        why="w",
        fix="read it first",
    )
]


def test_parameters_outputs_and_receipt(tmp_path: Path) -> None:
    path = notebook(tmp_path)
    receipt = run(path, plan_for(path), parameters=["prompt=a cat", "count=41"], yes=True)
    assert receipt.ended == "finished"
    assert receipt.parameters == {"prompt": "a cat", "count": 41}
    folder = tmp_path / "nb-run"
    executed = json.loads((folder / "nb.ipynb").read_text())
    assert executed["cells"][1]["outputs"][0]["text"] == "a cat 42\n"
    assert executed["cells"][0]["source"].startswith("prompt = 'a cat'  #@param")
    assert "trusted" not in executed["cells"][0]["metadata"]
    assert (folder / "outputs/outputs/out.txt").read_text() == "a cat"
    assert Receipt.from_json((folder / "receipt.json").read_text()) == receipt
    assert "a cat 42" in (folder / "receipt.html").read_text()
    kept = runs.list(verb="run")[0]
    assert kept.subject == "nb.ipynb" and kept.state == "done"
    assert {choice.name for choice in kept.choices} >= {"box level", "profile"}


def test_a_parameter_that_is_secret_by_name_is_in_no_record(tmp_path: Path) -> None:
    path = notebook(tmp_path, ["api_key = 'x'  #@param\nprint(len(api_key))"])
    form = FormParameter(name="api_key", type="string", cell=0, line=1)
    plan = Plan(subject=Subject(kind="notebook", path="nb", sha256=""), parameters=[form])
    receipt = run(path, plan, parameters=["api_key=hunter22"], yes=True)
    assert receipt.parameters == {"api_key": "(not shown)"}
    assert "hunter22" not in receipt.to_json() and "hunter22" not in runs.list(verb="run")[0].to_json()


def test_a_parameter_the_notebook_lacks_is_named(tmp_path: Path) -> None:
    path = notebook(tmp_path)
    with pytest.raises(UsageError, match=r"(?s)no parameter 'promt'.*prompt"):
        run(path, plan_for(path), parameters=["promt=x"], yes=True)


def test_nobody_asked_means_no(tmp_path: Path) -> None:
    path = notebook(tmp_path)
    with pytest.raises(Refused, match="nobody was asked"):
        run(path, plan_for(path, hosts=HUB))


def test_yes_grants_the_ordinary_only(tmp_path: Path) -> None:
    path = notebook(tmp_path)
    prepared = verb.prepare(path, settings(yes=True), plan_for(path, hosts=HUB))
    assert "huggingface.co" in verb.agreed(prepared).network.hosts
    for fields, grant in (
        ({"hosts": STRANGER}, "host:stranger.example"),
        ({"effects": SECRET}, "secret:HF_TOKEN@huggingface.co"),
        ({"findings": DANGER}, "finding:remote-script"),
    ):
        prepared = verb.prepare(path, settings(yes=True), plan_for(path, **fields))
        with pytest.raises(Refused) as caught:
            verb.agreed(prepared)
        assert f"--allow {grant}" in str(caught.value)
        prepared = verb.prepare(path, settings(yes=True, allow=[grant]), plan_for(path, **fields))
        verb.agreed(prepared)


def test_drive_needs_a_folder_by_name(tmp_path: Path) -> None:
    path = notebook(tmp_path)
    mount = [Effect(kind="credential", target="google-drive", cell=0, line=1)]
    prepared = verb.prepare(path, settings(yes=True), plan_for(path, effects=mount))
    for asked in (False, True):
        with pytest.raises(Refused, match="drive:FOLDER"):
            verb.agreed(prepared, asked=asked)
    prepared = verb.prepare(path, settings(yes=True, allow=[f"drive:{tmp_path}"]), plan_for(path, effects=mount))
    assert verb.agreed(prepared).drive is not None


def test_strict_refuses_whatever_is_allowed(tmp_path: Path) -> None:
    path = notebook(tmp_path)
    with pytest.raises(DangerousPlan, match="fetched script"):
        verb.prepare(
            path, settings(strict=True, yes=True, allow=["finding:remote-script"]), plan_for(path, findings=DANGER)
        )


def test_a_permissions_file_is_the_whole_answer(tmp_path: Path) -> None:
    path = notebook(tmp_path)
    saved = tmp_path / "nb.permissions.toml"
    run(path, plan_for(path, hosts=HUB), yes=True, save_permissions=saved)
    assert 'hosts = ["huggingface.co"' in saved.read_text()
    edited = saved.read_text().replace('"huggingface.co", ', "")
    saved.write_text(edited)
    prepared = verb.prepare(path, settings(permissions=saved), plan_for(path, hosts=HUB))
    assert "huggingface.co" not in verb.agreed(prepared).network.hosts
    path.write_text(path.read_text().replace("a dog", "another"))
    with pytest.raises(Refused, match="another version"):
        verb.prepare(path, settings(permissions=saved), plan_for(path))


def test_the_difference_from_the_plan(tmp_path: Path) -> None:
    path = notebook(
        tmp_path,
        ["import urllib.request as u\ntry: u.urlopen('http://surprise.example/')\nexcept OSError: pass"],
    )
    plan = Plan(
        subject=Subject(kind="notebook", path="nb", sha256=""),
        hosts=HUB,
        effects=[Effect(kind="unpickle", target="x.pt", cell=0, line=1)],
    )
    receipt = run(path, plan, yes=True)
    assert receipt.difference is not None
    assert receipt.difference.planned_not_seen == ["host huggingface.co"]
    assert any("surprise.example" in line for line in receipt.difference.seen_not_planned)
    assert any("unpickle x.pt" in line for line in receipt.difference.not_comparable)


def test_a_failing_cell_ends_the_run_and_is_told(tmp_path: Path) -> None:
    path = notebook(tmp_path, ["1 / 0", "print('after')"])
    plan = plan_for(path)
    receipt = run(path, plan, yes=True)
    assert receipt.ended == "failed" and "ZeroDivisionError" in receipt.ended_why
    assert [cell.status for cell in receipt.cells] == ["error", "not-run"]
    assert run(path, plan, yes=True, keep_going=True).cells[1].status == "ok"


@pytest.mark.parametrize(
    ("data", "error"),
    [("{", InputError), ("[1]", InputError), ('{"cells": 5}', InputError), ("[" * 100_000, InputError)],
)
def test_what_is_no_notebook_is_refused(tmp_path: Path, data: str, error: type[Exception]) -> None:
    path = tmp_path / "nb.ipynb"
    path.write_text(data)
    with pytest.raises(error):
        verb.prepare(path, settings(yes=True), plan_for(path))
    with pytest.raises(NotFound):
        verb.prepare(tmp_path / "none.ipynb", settings(), plan_for(path))


def test_an_old_notebook_and_a_percent_script_run(tmp_path: Path) -> None:
    old = tmp_path / "old.ipynb"
    cells = [{"cell_type": "code", "input": ["print(6 * ", "7)"], "outputs": [], "language": "python"}]
    old.write_text(json.dumps({"worksheets": [{"cells": cells}], "metadata": {}, "nbformat": 3, "nbformat_minor": 0}))
    script = tmp_path / "script.py"
    script.write_text("# %% [markdown]\n# Title\n# %%\nprint(6 * 7)\n")
    for path in (old, script):
        receipt = run(path, plan_for(path), yes=True)
        assert receipt.ended == "finished"
        assert "42" in (tmp_path / f"{path.stem}-run" / f"{path.stem}.ipynb").read_text()


def test_without_a_box_it_must_be_asked_for_and_is_recorded(tmp_path: Path) -> None:
    path = notebook(tmp_path)
    receipt = run(path, plan_for(path), yes=True, unsandboxed=True)
    assert receipt.enforcement.level == "D" and receipt.enforcement.name == "none"
    assert receipt.ended == "finished"
    assert "nothing was enforced" in receipt.enforcement.missing[0]


def test_the_function_takes_what_the_settings_say() -> None:
    names = [name for name in inspect.signature(verb.run).parameters if name != "notebook"]
    assert names == list(RunSettings.model_fields)
