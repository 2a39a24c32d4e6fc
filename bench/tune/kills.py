"""Kills a small tune at random moments and goes on with it: whether the end is, bit for bit, that of an unbroken run.

    OMP_NUM_THREADS=1 python bench/tune/kills.py [--kills 24] [--interrupts 4] [--seed 0]

The whole verb is run (`allmend tune`, on a two-layer model of random weights and 300 made-up rows, some 285 steps), in
children of one process that has imported everything, so that most of a kill's moments are work and not importing. Half
of the kills come at a moment drawn evenly from the time that an unbroken run takes; the other half as soon as a file
is being written that a rename has not finished (checkpoints, the best adapter, the plan), or just after a run has said
that it judges. A work is killed one to three times and then left to end. What is compared is every byte of
both adapters, and every tensor of both checkpoints. Counts are added to those in `kills.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import shapes

HERE = Path(__file__).parent
STAGES = {"Reading": "before", "Looking": "before", "Loading": "before", "Checking": "before",
          "Measuring": "untuned answers", "Trying": "probe", "Training": "training", "Judging": "verdict"}  # fmt: skip
FLAGS = ("--rank", "4", "--learning-rate", "5e-3", "--dtype", "float32", "--epochs", "19", "--batch", "16", "--budget",
         "30m", "--dropout", "0.1", "--few-shot", "0", "--no-forgetting")  # fmt: skip


def rows(path: Path) -> None:
    """Rows whose answer stands in the prompt."""
    numbers = random.Random(0)
    with path.open("w") as file:
        for _ in range(300):
            label = numbers.choice(["cat", "dog"])
            words = " ".join("".join(numbers.choices("abcdefgh", k=4)) for _ in range(3))
            file.write(json.dumps({"prompt": f"{words} {label}?", "completion": label}) + "\n")


class Work:
    """One tune in a home of its own, begun and ended as often as one likes."""

    def __init__(self, folder: Path, model: Path, data: Path) -> None:
        self.home, self.words = folder, ["tune", str(data), "--model", str(model), *FLAGS]
        self.said = folder / "said"
        self.home.mkdir()
        self.number = 0

    def begin(self) -> None:
        """Start it, or go on with it."""
        self.number = os.fork()
        if self.number:
            return
        code = 1
        try:
            with self.said.open("wb") as said:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
            os.environ["ALLMEND_HOME"] = str(self.home)
            from allmend.cli import run_command

            code = run_command(self.words)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def ended(self, wait: bool = False) -> int | None:
        """Its exit status, None while it runs."""
        number, status = os.waitpid(self.number, 0 if wait else os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if number else None

    def stage(self) -> str:
        """What it said last that it does."""
        lines = self.said.read_text("utf-8", "replace").splitlines() if self.said.is_file() else []
        heads = [line.split(" ", 2)[1] for line in lines if line[:1].isdigit() and line.count(" ") > 1]
        return next((STAGES[head] for head in reversed(heads) if head in STAGES), "before")

    def writing(self) -> str | None:
        """A file that is half-written."""
        for path in self.home.glob("runs/*/.*.new"):
            return path.name
        for path in self.home.glob("runs/*/*/.*.new"):
            return path.name
        return None


def state(home: Path) -> dict[str, Any]:
    """Everything that was learned, of the newest run."""
    from allmend.tuning import checkpoint

    # A run that was killed before its first checkpoint has none.
    files = home.glob("runs/tune-*/last.safetensors")
    folder = max(files, key=lambda path: path.stat().st_mtime_ns).parent
    found: dict[str, Any] = {}
    for name in ("adapter", "adapter-last"):
        found[name] = (folder / name / "adapter_model.safetensors").read_bytes()
    for name in ("best", "last"):
        adapter, optimiser, progress = checkpoint.load(folder / f"{name}.safetensors")
        found[name] = {key: value.numpy().tobytes() for key, value in (adapter | optimiser).items()}
        found[f"{name} counters"] = (progress.step, progress.steps, progress.tokens, progress.best_loss)
    return found


def struck(work: Work, number: signal.Signals, moment: float, watching: bool) -> str | None:
    """Begin it, and end it at `moment` seconds or, `watching`, at the first half-written file from then on.

    Returns:
        Where it was; None where it had ended before.
    """
    work.begin()
    begun = time.monotonic()
    file = None
    while (passed := time.monotonic() - begun) < moment or (watching and file is None):
        if work.ended() is not None:
            return None
        if watching and passed >= moment:
            file = work.writing()
        else:
            time.sleep(0.002)
    where = f"writing {file}" if file else work.stage()
    os.kill(work.number, number)
    code = work.ended(wait=True)
    if code == 0:
        return None
    assert number == signal.SIGINT or code == -number, code
    if number == signal.SIGINT:
        assert code == 130, f"Ctrl-C ended with {code} at {where}:\n{work.said.read_text()[-1500:]}"
    return where


def main() -> None:
    """Run it and add to the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--interrupts", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    # Imported once, before the forks; torch has no threads of its own yet.
    import torch

    import allmend.cli.tune
    import allmend.verbs.tuning_work  # noqa: F401

    torch.set_num_threads(1)
    file = HERE / "kills.json"
    result = json.loads(file.read_text()) if file.is_file() else {}
    numbers = random.Random(settings.seed)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        model, data = shapes.folder("two-layers", place), place / "rows.jsonl"
        rows(data)
        for warm in ("first", "whole"):  # the first compiles what all others find
            whole = Work(place / warm, model, data)
            begun = time.monotonic()
            whole.begin()
            assert whole.ended(wait=True) == 0, whole.said.read_text()[-2000:]
            takes = time.monotonic() - begun
        wanted = state(whole.home)
        print(f"an unbroken run takes {takes:.1f} s and {wanted['last counters'][0]} steps", flush=True)
        for kind, total, signalled in (("kills", settings.kills, signal.SIGKILL),
                                       ("interrupts", settings.interrupts, signal.SIGINT)):  # fmt: skip
            done = 0
            while done < total:
                work = Work(place / f"{kind}{done}", model, data)
                at: list[str] = []
                for _ in range(min(numbers.randint(1, 3), total - done)):
                    watching = bool(numbers.getrandbits(1)) and kind == "kills"
                    where = struck(work, signalled, numbers.uniform(0.0, 0.95) * takes, watching)
                    if where is None:
                        break
                    at.append(where)
                if not at:
                    shutil.rmtree(work.home)
                    continue
                work.begin()
                code = work.ended(wait=True)
                assert code == 0, work.said.read_text()[-3000:]
                have = state(work.home)
                equal = have == wanted
                left = [path.name for path in work.home.glob("runs/*/.*.new") if path.parent.name == newest(work.home)]
                done += len(at)
                note(result, kind, at, equal, left)
                differing = [key for key in wanted if have[key] != wanted[key]]
                print(kind, at, "equal" if equal else f"DIFFERS: {differing}", left, flush=True)
                shutil.rmtree(work.home)
                result["command"] = " ".join(["python", *sys.argv])
                from against import machine, versions

                result |= {"machine": machine(), "versions": versions()}
                file.write_text(json.dumps(result, indent=1) + "\n")


def newest(home: Path) -> str:
    """The name of the run that ended last."""
    return max(home.glob("runs/tune-*"), key=lambda path: path.stat().st_mtime_ns).name


def note(result: dict[str, Any], kind: str, at: list[str], equal: bool, left: list[str]) -> None:
    """Add what came of one work to the counts."""
    known = result.setdefault(kind, {"struck": 0, "works": 0, "equal": 0, "left_half_written": 0, "where": {}})
    known["struck"] += len(at)
    known["works"] += 1
    known["equal"] += equal
    known["left_half_written"] += len(left)
    known["where"] = dict(sorted((Counter(known["where"]) + Counter(at)).items()))


if __name__ == "__main__":
    main()
