"""Trials as one HTML file that needs no network: parallel coordinates, learning curves, and how each ended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from allmend.nouns.search import Search, Trial


def write_page(path: Path, searches: Sequence[Search]) -> None:
    """Write the page by rename."""
    hidden = path.with_name(f".{path.name}.new")
    hidden.write_text(page(searches), "utf-8")
    hidden.replace(path)


def page(searches: Sequence[Search]) -> str:
    """The page of one or several searches; what comes from outside stands in it as JSON alone."""
    found = {
        "runs": [
            {"id": one.run, "sentence": one.sentence, "more": one.more_data, "winner": one.winner,
             "rows": [point.model_dump() for point in one.learning_curve]}
            for one in searches
        ],
        "trials": [_trial(one, trial) for one in searches for trial in one.trials if trial.step],
    }  # fmt: skip
    # `</script>` inside a string would end the script.
    text = json.dumps(found, ensure_ascii=False).replace("<", "\\u003c").replace("\u2028", " ").replace("\u2029", " ")
    frame = resources.files("allmend.search").joinpath("page.html").read_text("utf-8")
    return frame.replace("/*DATA*/null", text)


def _trial(search: Search, trial: Trial) -> dict[str, Any]:
    return {
        "run": search.run,
        "number": trial.number,
        **trial.point.model_dump(),
        "rows": trial.rows,
        "seconds": round(trial.seconds, 1),
        "loss": trial.best,
        "state": "best" if trial.number == search.winner else trial.state,
        "why": trial.why,
        "curve": [[one.rows, one.loss] for one in trial.curve if one.loss is not None],
    }
