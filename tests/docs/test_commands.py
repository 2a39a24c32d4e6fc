"""Every command in the README and the pages that need the default model is run as it stands, with a shorter budget."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest

import tiny
from documented import ROOT, Reader, commands, furnish, reading

PAGES = [
    "README.md",
    "docs/models.md",
    "docs/tune.md",
    "docs/serve.md",
    "docs/ship.md",
]
SMALL_PAGES = ["docs/search.md", "docs/verdict.md"]
"""What they show is what can be asked for, which a model of two layers does as well, in a tenth of the time."""

pytestmark = [pytest.mark.model, pytest.mark.slow]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_works(reader, page):
    lines = commands(page)
    assert lines
    for line in lines:
        if "./adapter" in line and not (reader.folder / "adapter").exists():
            record = json.loads(reader.run("allmend runs show last:tune --json"))
            [adapter] = [output["path"] for output in record["outputs"] if output["name"] == "adapter"]
            shutil.copytree(adapter, reader.folder / "adapter")
        reader.try_line(line)


@pytest.fixture(scope="module")
def small_reader(tmp_path_factory, model_cache):
    """A reader with a model of two layers, and a search in the record."""
    folder = tmp_path_factory.mktemp("small")
    furnish(folder)
    tiny.model("llama", initializer_range=0.15, max_position_embeddings=4096).save_pretrained(folder / "tiny")
    tiny.tokenizer().save_pretrained(folder / "tiny")
    (folder / "home").mkdir()
    for name in ("data", "cache"):
        (folder / "home" / name).symlink_to(model_cache / name)
    made = Reader(folder, reading({"ALLMEND_HOME": str(folder / "home")}), model="./tiny")
    made.try_line(commands("docs/search.md")[0])
    return made


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", SMALL_PAGES)
def test_every_command_of_the_page_works_on_a_small_model(small_reader, page):
    lines = commands(page)
    assert lines
    for line in lines:
        small_reader.try_line(line)


def test_the_python_of_the_readme_works(small_reader):
    [code] = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    code = code.replace('budget="10m"', 'budget="20s"').replace("gemma-3-270m", small_reader.model)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=small_reader.folder,
        env=small_reader.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] in ("better", "not shown to be better", "worse")


def test_the_make_targets_of_the_readme_exist():
    for target in re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(), re.M):
        assert subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True).returncode == 0, target


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", *ROOT.glob("docs/*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_recorded_tour_is_the_one_that_was_measured():
    shown = (ROOT / "bench" / "tour.txt").read_text()
    assert f"<!-- tour -->\n```text\n{shown}```\n<!-- /tour -->" in (ROOT / "README.md").read_text()
    figures = json.loads((ROOT / "bench" / "tour.json").read_text())["measures"]["accuracy"]
    assert f"accuracy {figures['base']:.3f} → {figures['tuned']:.3f}" in shown
