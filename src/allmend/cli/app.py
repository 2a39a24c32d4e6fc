"""The names of the commands and where each lives.

A command's module is imported when it is called; its one-line help stands here, so that `--help` imports
none of them.
"""

from __future__ import annotations

from cyclopts import App

from allmend import __version__

COMMANDS: dict[str, tuple[str, str]] = {
    "tour": ("allmend.cli.tour:command", "The main job, end to end, on the embedded model and real data."),
    "plan": ("allmend.cli.plan:command", "Say what a notebook, script or model will do before it runs."),
    "run": ("allmend.cli.run:command", "Run a notebook held to its permissions, and give a receipt."),
    "lock": ("allmend.cli.lock:command", "Fix what a notebook installs and fetches, to run the same tomorrow."),
    "app": ("allmend.cli.notebook_app:command", "Serve a notebook as a page and an HTTP API."),
    "data": ("allmend.cli.data:app", "Your own rows: check them before training."),
    "tune": ("allmend.cli.tune:command", "From your own rows to a LoRA and a verdict on it."),
    "verdict": ("allmend.cli.verdict:command", "Is the tuned model better? On rows it never saw, with intervals."),
    "benchmark": ("allmend.cli.benchmark:command", "Standard benchmarks on models and tuned runs, on local rows."),
    "ship": ("allmend.cli.ship:app", "Pass on what was tested: merged, GGUF, card, lineage, signature; or refuse."),
    "chat": ("allmend.cli.chat:command", "Talk to a model in the terminal, base beside tuned."),
    "serve": ("allmend.cli.serve:command", "Models and personal adapters behind the OpenAI API."),
    "index": ("allmend.cli.index:command", "Make a folder's documents searchable, by meaning and by word."),
    "keys": ("allmend.cli.keys:app", "Who may use what you serve: keys, scopes, limits, accounts, the audit log."),
    "usage": ("allmend.cli.usage:app", "Who used how many tokens of what, prices, CSV and JSON out."),
    "hub": ("allmend.cli.hub:app", "A hub of your own, for the tools that everyone uses already."),
    "runs": ("allmend.cli.runs:app", "What was done on this machine: list, show, compare."),
    "models": ("allmend.cli.models:command", "What can be had by a short name, licences, what is here."),
    "doctor": ("allmend.cli.doctor:command", "What this machine can do, and why."),
}
"""Verb or group word: (`module:function`, or `module:app` for a group; help), in the order people meet them."""


def build() -> App:
    """The command line, with nothing behind the names loaded yet."""
    top = App(
        name="allmend",
        help="The workbench for open generative AI: know it, make it yours, prove it, pass it on.",
        version=__version__,
        help_epilogue="Every command takes --debug: the traceback of an error. Exit codes: docs/exit-codes.md.",
        sort_key=None,
        suppress_keyboard_interrupt=False,
    )
    for place, (name, (target, text)) in enumerate(COMMANDS.items()):
        top.command(target, name=name, help=text, sort_key=place)
    return top


app = build()
