"""What tests of the pages share: the commands in them, and running one as a reader would, with a shorter budget."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]
_WORDS = (["The film", "This story", "Her acting", "The music"], ["never", "always", "simply"])


def commands(page: str) -> list[str]:
    """Every line of the page's shell blocks that calls allmend."""
    blocks = re.findall(r"^```bash\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if "allmend " in line]


def furnish(folder: Path) -> None:
    """Write the files that the pages speak of."""
    chance = random.Random(0)
    lines = ["text,label"]
    for number in range(80):
        good = chance.random() < 0.5
        word = chance.choice(["delights", "shines", "moves me"] if good else ["bores", "drags", "fails"])
        who, how = chance.choice(_WORDS[0]), chance.choice(_WORDS[1])
        lines.append(f"{who} {how} {word} in scene {number}.,{'good' if good else 'bad'}")
    (folder / "reviews.csv").write_text("\n".join(lines))
    norms = re.search(r"^```toml\n(# norms.toml\n.*?)^```", (ROOT / "docs/verdict.md").read_text(), re.M | re.S)
    assert norms is not None
    (folder / "norms.toml").write_text(norms.group(1))
    cells = [nbformat.v4.new_code_cell('print("hello")'), nbformat.v4.new_code_cell("!pip --version")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "notebook.ipynb")


def reading(home: dict[str, str]) -> dict[str, str]:
    """The environment of somebody who has allmend installed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, **home, "OMP_NUM_THREADS": "2", "PATH": path}


@dataclass
class Reader:
    """Somebody in a folder with those files and a home of their own, trying what the pages say.

    A line that stands on several pages is run once: it would do the same again.
    """

    folder: Path
    environment: dict[str, str]
    model: str | None = None
    """A model to take in the place of the default one, where a page is not about what the default model answers."""
    tried: dict[str, str] = field(default_factory=dict)
    """What each line printed."""

    def try_line(self, line: str) -> str:
        """Run a line of a page, unless it was run before; a server is asked what it says and then ended."""
        if line not in self.tried:
            self.tried[line] = self._serve(line) if line.startswith("allmend serve") else self.run(line)
        return self.tried[line]

    def run(self, line: str) -> str:
        """What the command prints; it must end well."""
        if self.model is not None:
            line = line.replace("gemma-3-270m", self.model)
        # Where a number of trials is named, all of them must fit, also on a slow machine.
        line = re.sub(r"--budget \w+", f"--budget {'300s' if '--trials' in line else '20s'}", line)
        line = re.sub(r"^allmend run .*", r"\g<0> --yes", line)  # There is nobody at a terminal to ask.
        line = re.sub(r"^allmend ship last.*", r"\g<0> --prompts 8", line)
        done = subprocess.run(
            line, shell=True, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=800
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def _serve(self, line: str) -> str:
        line = line if "--port" in line else f"{line} --port 0"
        with subprocess.Popen(
            line.split(), cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdout is not None
            try:
                shown: list[str] = []
                end = time.monotonic() + 300
                while not (shown and "python -c" in shown[-1]):
                    assert time.monotonic() < end and server.poll() is None, shown
                    shown.append(server.stdout.readline())
                for tried in map(str.strip, shown):
                    if tried.startswith("python") or (tried.startswith("curl") and shutil.which("curl")):
                        assert self.run(tried).strip()
            finally:
                server.send_signal(signal.SIGINT)
                server.wait(60)
        assert server.returncode == 130
        return "".join(shown)
