"""`allmend plan` as a person types it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from allmend.cli import run_command as run

SOURCE = "import base64\nexec(base64.b64decode(blob))\n!pip install thing\n"


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    path = tmp_path / "a.ipynb"
    cell = {"cell_type": "code", "source": SOURCE, "metadata": {}, "outputs": []}
    path.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4}))
    return path


def test_the_page_begins_with_what_matters(notebook: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", str(notebook)]) == 0
    page = capsys.readouterr().out
    assert page.index("DANGER") < page.index("Code it fetches and runs") < page.index("pip:thing")


def test_strict_exits_with_3(notebook: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", str(notebook), "--strict"]) == 3
    assert "dangerous finding" in capsys.readouterr().err


def test_json_has_the_schema_and_is_stable(notebook: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for _ in range(2):
        assert run(["plan", str(notebook), "--json"]) == 0
        texts.append(capsys.readouterr().out)
    plan = json.loads(texts[0])
    assert texts[0] == texts[1]
    assert plan["schema"] == "allmend.plan/1"
    assert set(plan) == {"schema", "subject", "effects", "hosts", "parameters", "needs", "findings", "unread", "totals"}
    assert set(plan["effects"][0]) == {"kind", "target", "cell", "line", "certainty", "reason", "evidence", "detail"}
    assert {"host", "family", "for"} == set(plan["hosts"][0])


def test_sarif_names_rule_level_and_place(notebook: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", str(notebook), "--sarif"]) == 0
    result = json.loads(capsys.readouterr().out)["runs"][0]["results"][0]
    assert (result["ruleId"], result["level"]) == ("obfuscated-text-runs", "error")
    assert result["locations"][0]["physicalLocation"]["region"]["startLine"] == 2


def test_sarif_holds_what_the_standard_requires(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The required properties of SARIF 2.1.0 (OASIS, sections 3.13 to 3.59), for a file whose name needs quoting."""
    path = tmp_path / "my notebook ü#1.ipynb"
    cells = [
        {"cell_type": "code", "source": s, "metadata": {}, "outputs": []} for s in (SOURCE, "x = $broken", "%odd 1")
    ]
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}))
    assert run(["plan", str(path), "--sarif"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["version"] == "2.1.0" and document["$schema"].endswith("sarif-2.1.0.json")
    [done] = document["runs"]
    driver = done["tool"]["driver"]
    assert driver["name"] == "allmend" and driver["version"]
    ids = [rule["id"] for rule in driver["rules"]]
    assert len(ids) == len(set(ids))
    for rule in driver["rules"]:
        assert rule["shortDescription"]["text"] and rule["help"]["text"]
        assert rule["defaultConfiguration"]["level"] in ("error", "warning", "note")
    [invocation] = done["invocations"]
    assert invocation["executionSuccessful"] is True
    assert len(invocation["toolExecutionNotifications"]) == 2, "what was not read is said, never left out"
    for result in done["results"]:
        assert result["ruleId"] in ids and result["message"]["text"]
        for location in result["locations"]:
            place = location["physicalLocation"]
            assert place["region"]["startLine"] >= 1
            assert place["artifactLocation"]["uri"].endswith("my%20notebook%20%C3%BC%231.ipynb")
        assert all(isinstance(value, str) for value in result["partialFingerprints"].values())


def test_html_is_one_file_without_scripts(tmp_path: Path) -> None:
    path = tmp_path / "b.py"
    path.write_text("import requests\nrequests.get('https://x.example/<script>alert(1)</script>')\n")
    assert run(["plan", str(path), "--html", str(tmp_path / "p.html")]) == 0
    page = (tmp_path / "p.html").read_text()
    assert "<script" not in page
    assert "&lt;script" in page


def test_diff_says_what_came_and_went(notebook: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = tmp_path / "new.ipynb"
    new.write_text(notebook.read_text().replace("thing", "other"))
    assert run(["plan", str(new), "--diff", str(notebook)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("+ install") and "pip:other" in line for line in lines)
    assert any(line.startswith("- install") and "pip:thing" in line for line in lines)


def test_diff_takes_a_saved_plan(notebook: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["plan", str(notebook), "--json"])
    (tmp_path / "old.json").write_text(capsys.readouterr().out)
    assert run(["plan", str(notebook), "--diff", str(tmp_path / "old.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["same"] is True


def test_standard_input(notebook: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.TextIOWrapper(io.BytesIO(notebook.read_bytes()))
    monkeypatch.setattr(sys, "stdin", stream)
    assert run(["plan", "-", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["totals"]["install"] == 1


def test_a_folder_and_the_scripts_beside_a_notebook(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_text("# Tool\n```bash\npip install -r requirements.txt\npython app.py\n```\n")
    (tmp_path / "requirements.txt").write_text("torch==2.0\nflask  # web\n")
    (tmp_path / "app.py").write_text("import requests\nrequests.get('https://x.example/a')\n")
    assert run(["plan", str(tmp_path), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    found = {(e["kind"], e["target"], e["detail"]["file"]) for e in plan["effects"]}
    assert plan["subject"]["kind"] == "folder"
    assert {("install", "pip:flask", "requirements.txt"), ("download", "https://x.example/a", "app.py"),
            ("install", "pip:-r requirements.txt", "README.md")} <= found  # fmt: skip


def test_a_clone_that_lies_beside_is_followed_one_level(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = {"cell_type": "code", "source": "!git clone https://github.com/a/tool\n!python tool/run.py", "metadata": {}}
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4}))
    run(["plan", str(path), "--json"])
    assert "was not read" in json.loads(capsys.readouterr().out)["unread"][0]["reason"]
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "run.py").write_text("import os\nos.system('wget https://inner.example/w')\n")
    run(["plan", str(path), "--json"])
    plan = json.loads(capsys.readouterr().out)
    inner = next(e for e in plan["effects"] if e["target"] == "https://inner.example/w")
    assert inner["detail"]["via"] == "tool/run.py"
    assert plan["unread"] == []


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.py").write_text("import os\nos.system('wget https://inner.example/w')\n")
    place = tmp_path / "in"
    place.mkdir()
    (place / "tool").symlink_to(tmp_path / "out")
    cell = {"cell_type": "code", "source": "!git clone https://github.com/a/tool\n!python tool/run.py", "metadata": {}}
    (place / "n.ipynb").write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4}))
    run(["plan", str(place / "n.ipynb"), "--json"])
    assert "inner.example" not in capsys.readouterr().out


@pytest.mark.parametrize(("name", "code"), [("gone.ipynb", 5), ("bad.ipynb", 4)])
def test_bad_input_has_its_exit_code(tmp_path: Path, name: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.ipynb").write_text("no json")
    assert run(["plan", str(tmp_path / name)]) == code
    assert "Traceback" not in capsys.readouterr().err


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "e.py"
    path.write_text("import requests\nrequests.get('https://x.example/\x1b[2Jgone')\n")
    run(["plan", str(path)])
    assert "\x1b[2J" not in capsys.readouterr().out


def test_planning_imports_little(notebook: Path) -> None:
    """The first line is on the screen in 0.4 s (bench/plan): no tensors, web, database or kernel for it."""
    code = (
        "import sys\nfrom allmend.cli import run_command as run\n"
        f"before = set(sys.stdlib_module_names)\nrun(['plan', {str(notebook)!r}])\n"
        "print(len(sys.modules), *sorted({name.partition('.')[0] for name in sys.modules} - before), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    count, *names = done.stderr.split()
    wanted = {"allmend", "annotated_types", "attr", "attrs", "cyclopts", "pydantic", "pydantic_core", "rich", "tree_sitter",
              "tree_sitter_bash", "typing_extensions", "typing_inspection", "docstring_parser", "pygments", "markdown_it",
              "mdurl", "sitecustomize", "tree_sitter_python"}  # fmt: skip
    ours = {name for name in names if not name.startswith("_")}
    assert ours - wanted == set()
    assert int(count) < 500
