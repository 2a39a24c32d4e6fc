"""Every command in the README and the pages that need the default model is run as it stands, with a shorter budget."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "docs/models.md",
    "docs/tune.md",
    "docs/search.md",
    "docs/verdict.md",
    "docs/serve.md",
]

pytestmark = [pytest.mark.model, pytest.mark.slow]


def commands(page: str) -> list[str]:
    blocks = re.findall(r"^```bash\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if "allmend " in line]


@pytest.fixture(scope="module")
def place(tmp_path_factory, shared_home):
    """A folder with the files that the pages speak of, and a home with a tune run in it."""
    folder = tmp_path_factory.mktemp("docs")
    chance = random.Random(0)
    parts = (["The film", "This story", "Her acting", "The music"], ["never", "always", "simply"])
    lines = ["text,label"]
    for number in range(80):
        good = chance.random() < 0.5
        word = chance.choice(["delights", "shines", "moves me"] if good else ["bores", "drags", "fails"])
        who, how = chance.choice(parts[0]), chance.choice(parts[1])
        lines.append(f"{who} {how} {word} in scene {number}.,{'good' if good else 'bad'}")
    (folder / "reviews.csv").write_text("\n".join(lines))
    norms = re.search(r"^```toml\n(# norms.toml\n.*?)^```", (ROOT / "docs/verdict.md").read_text(), re.M | re.S)
    (folder / "norms.toml").write_text(norms.group(1))
    cells = [nbformat.v4.new_code_cell('print("hello")'), nbformat.v4.new_code_cell("!pip --version")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "notebook.ipynb")
    environment = {**os.environ, **shared_home(folder / "home"), "OMP_NUM_THREADS": "2"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    return folder, environment


def run(line: str, folder: Path, environment: dict[str, str]) -> str:
    # Where a number of trials is named, all of them must fit, also on a slow machine.
    line = re.sub(r"--budget \w+", f"--budget {'300s' if '--trials' in line else '40s'}", line)
    line = re.sub(r"^allmend run .*", r"\g<0> --yes", line)  # There is nobody at a terminal to ask.
    done = subprocess.run(line, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def serve(line: str, folder: Path, environment: dict[str, str]) -> None:
    """Start a server, try the two lines that it prints, end it."""
    line = line if "--port" in line else f"{line} --port 0"
    with subprocess.Popen(line.split(), cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            shown: list[str] = []
            end = time.monotonic() + 120
            while not (shown and "python -c" in shown[-1]):
                assert time.monotonic() < end and server.poll() is None, shown
                shown.append(server.stdout.readline())
            for tried in shown:
                if tried.lstrip().startswith(("curl", "python")) and (tried.lstrip()[0] == "p" or shutil.which("curl")):
                    answered = run(tried.strip(), folder, environment)
                    assert answered.strip()
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)
    assert server.returncode == 130


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", ["docs/tune.md", *[page for page in PAGES if page != "docs/tune.md"]])
def test_every_command_of_the_page_works(place, page):
    folder, environment = place
    lines = commands(page)
    assert lines
    for line in lines:
        if line.startswith("allmend serve"):
            if "./adapter" in line:
                run("cp -r $(allmend runs show last:tune --json | python -c "
                    "'import json,sys; print([o[\"path\"] for o in json.load(sys.stdin)[\"outputs\"] "
                    "if o[\"name\"] == \"adapter\"][0])') adapter", folder, environment)  # fmt: skip
            serve(line, folder, environment)
        else:
            run(line, folder, environment)


def test_the_python_of_the_readme_works(place):
    folder, environment = place
    [code] = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    code = code.replace('budget="10m"', 'budget="40s"')
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
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
    import json

    figures = json.loads((ROOT / "bench" / "tour.json").read_text())["measures"]["accuracy"]
    assert f"accuracy {figures['base']:.3f} → {figures['tuned']:.3f}" in shown
