"""Findings: the few combinations of effects that are worth stopping for, each with its cells and how to make it safe."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from allmend.nouns.notebook import Notebook
from allmend.nouns.plan import Effect, Finding, Severity
from allmend.planning.effects.targets import host_of
from allmend.planning.hosts import family_of

_STARTUP = re.compile(
    r"\.(?:bashrc|bash_profile|profile|zshrc|zprofile)$|/\.ssh/|/etc/(?:profile|cron|init|systemd|rc)|/\.ipython/|sitecustomize|"
    r"usercustomize|/\.jupyter/|/crontab|/\.config/autostart"
)
_CAN_RUN = re.compile(r"\.(?:ckpt|pt|pth|pkl|pickle|bin|joblib|dill)(?:[?#]|$)", re.IGNORECASE)
_ACCOUNTS = ("google-drive", "google-account")


def find(effects: list[Effect], notebook: Notebook) -> list[Finding]:
    """Every finding, dangers first, then by cell."""
    found: list[Finding] = []
    for rule in _RULES:
        finding = rule(effects, notebook)
        if finding is not None:
            found.append(finding)
    order = {"danger": 0, "warning": 1, "note": 2}
    return sorted(found, key=lambda item: (order[item.severity], item.cells[:1], item.id))


def _of(effects: list[Effect], *kinds: str) -> list[Effect]:
    return [effect for effect in effects if effect.kind in kinds]


def _made(name: str, severity: Severity, title: str, causes: Iterable[Effect], why: str, fix: str) -> Finding:
    kept = list(causes)
    places = list(dict.fromkeys((effect.cell, effect.line) for effect in kept))[:20]
    return Finding(
        id=name,
        severity=severity,
        title=title,
        cells=sorted({cell for cell, _ in places}),
        lines=places,
        why=why,
        fix=fix,
    )


def _unpinned(effects: list[Effect]) -> list[Effect]:
    return [effect for effect in _of(effects, "foreign_code") if effect.detail.get("pinned") is False]


def account_and_foreign_code(effects: list[Effect], notebook: Notebook) -> Finding | None:
    """Drive or a Google account in the same session as unpinned code from outside."""
    accounts = [effect for effect in _of(effects, "credential") if effect.target in _ACCOUNTS]
    foreign = _unpinned(effects)
    if not accounts or not foreign:
        return None
    what = "your Google Drive" if accounts[0].target == "google-drive" else "your Google account"
    return _made(
        "account-and-foreign-code", "warning", f"Code that anyone may change runs with access to {what}",
        [accounts[0], *foreign],
        f"It opens {what} and, in the same session, runs code from outside that is not pinned to a revision "
        f"({_names(foreign)}). Whoever can change that code can read, change or delete everything there.",
        "Run it in the box, which shows one folder in place of the Drive; or pin the code to a commit and read it.",
    )  # fmt: skip


def _names(effects: list[Effect]) -> str:
    names = list(dict.fromkeys(effect.target for effect in effects))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


_HOMES = {
    "huggingface": ("huggingface",), "openai": ("openai",), "google": ("google-genai", "google-vertex", "google-storage"),
    "github": ("github",), "wandb": ("wandb",), "anthropic": ("anthropic",), "mistral": ("mistral",), "cohere": ("cohere",),
    "groq": ("groq",), "replicate": ("replicate",), "kaggle": ("kaggle",), "ngrok": ("ngrok",), "roboflow": ("roboflow",),
}  # fmt: skip
_SECRET_OF = (
    (re.compile(r"^hf_|^hugging", re.IGNORECASE), "huggingface"), (re.compile(r"^openai", re.IGNORECASE), "openai"),
    (re.compile(r"^gemini|^google", re.IGNORECASE), "google"), (re.compile(r"^github|^gh_", re.IGNORECASE), "github"),
    (re.compile(r"^wandb", re.IGNORECASE), "wandb"), (re.compile(r"^anthropic", re.IGNORECASE), "anthropic"),
    (re.compile(r"^mistral", re.IGNORECASE), "mistral"), (re.compile(r"^cohere", re.IGNORECASE), "cohere"),
    (re.compile(r"^groq", re.IGNORECASE), "groq"), (re.compile(r"^kaggle", re.IGNORECASE), "kaggle"),
)  # fmt: skip


def secret_elsewhere(effects: list[Effect], notebook: Notebook) -> Finding | None:
    """A secret appears in the very request that goes to a host of another service."""
    for effect in _of(effects, "send", "download"):
        leak = effect.detail.get("secret")
        host = str(effect.detail.get("host") or "")
        if not host and effect.certainty != "unknown":
            host = effect.target if effect.kind == "send" else host_of(effect.target)
        if not isinstance(leak, str) or "." not in host or host.endswith(".azure.com"):
            continue
        owner = next((name for shape, name in _SECRET_OF if shape.search(leak)), None)
        family = family_of(host)
        if owner is None or (family is not None and family.name in _HOMES.get(owner, ())):
            continue
        return _made(
            "secret-to-another-host", "danger", f"A secret of {owner} is sent to {host}", [effect],
            f"{leak} belongs to {owner}, and this request carries it to {host}, which is not one of its hosts.",
            "Do not run this cell with the secret set; make a new key if it was run before.",
        )  # fmt: skip
    return None


def hidden_fetch_and_run(effects: list[Effect], notebook: Notebook) -> Finding | None:
    """A cell whose source the page hides fetches a script and runs it, in the same cell."""
    hidden = {effect.cell for effect in _of(effects, "hidden_code")}
    causes = []
    for cell in sorted(hidden):
        here = [effect for effect in effects if effect.cell == cell]
        fetched = {effect.target for effect in here if effect.kind == "download"}
        ran = [effect for effect in here if effect.kind == "foreign_code" and effect.detail.get("pinned") is False]
        direct = [e for e in ran if e.target in fetched or e.target.startswith(("http://", "https://"))]
        causes.extend(direct)
    if not causes:
        return None
    return _made(
        "hidden-fetch-and-run", "warning", "A cell whose code is hidden fetches code and runs it", causes,
        f"The page shows a form where the cell fetches and runs {_names(causes)}; what it does can change from day to day.",
        "Show the code (double-click the form), fetch the script yourself, read it, and pin it.",
    )  # fmt: skip


def fetched_text_runs(effects: list[Effect], notebook: Notebook) -> Finding | None:
    """Text from the network goes straight into an interpreter."""
    causes = [
        effect for effect in _of(effects, "foreign_code")
        if effect.target.startswith(("http://", "https://")) and effect.detail.get("pinned") is False
        and not re.match(r"https://github\.com/[^/]+/[^/]+$", effect.target) and not re.search(r"\.(?:whl|zip|tar\.gz)", effect.target)
        and (family_of(host_of(effect.target)) is None or "raw" in effect.target or "gist" in effect.target or effect.detail.get("piped"))
    ]  # fmt: skip
    if not causes:
        return None
    return _made(
        "fetched-text-runs", "danger" if any(effect.target.startswith("http://") for effect in causes) else "warning",
        "Text from the network is run without being looked at", causes,
        f"{_names(causes)} is fetched and handed to an interpreter; whoever answers there decides what runs here.",
        "Fetch it to a file, read it, and compare its digest before it runs.",
    )  # fmt: skip


def weights_that_run_code(effects: list[Effect], notebook: Notebook) -> Finding | None:
    """Weights in a format that can run code, from a host that belongs to no known service, and they are loaded."""
    loads = _of(effects, "unpickle")
    if not loads:
        return None
    switched = [effect for effect in loads if effect.target.startswith("flag:")]
    files = [
        effect for effect in _of(effects, "download", "model")
        if _CAN_RUN.search(effect.target) and (host := host_of(effect.target)) and family_of(host) is None
    ]  # fmt: skip
    loaded = {effect.target.rsplit("/", 1)[-1] for effect in loads}
    chosen = [effect for effect in files if effect.target.split("?")[0].rsplit("/", 1)[-1] in loaded] or (
        files if switched else []
    )
    if not chosen:
        return None
    return _made(
        "weights-that-run-code", "warning", "Weights that can run code come from a host nobody vouches for",
        [*chosen, *loads[:3]],
        f"{_names(chosen)} is a pickle: loading it can run any program, and nothing checks what arrived.",
        "Use safetensors where it is offered, load with weights_only=True, or check the file's digest first.",
    )  # fmt: skip


def public_server_and_drive(effects: list[Effect], notebook: Notebook) -> Finding | None:
    """A public link to a server, while the Drive is written to."""
    public = [effect for effect in _of(effects, "serve") if effect.detail.get("public") == "yes"]
    written = [
        effect for effect in _of(effects, "personal_files")
        if effect.target.startswith("drive:") and effect.detail.get("mode") == "write"
    ]  # fmt: skip
    if not public or not written:
        return None
    return _made(
        "public-server-and-drive", "warning", "A public link leads to a server that writes into your Drive",
        [public[0], *written[:5]],
        f"Anyone who has or guesses the link ({public[0].target}) can use the server, and what it makes lands in your Drive.",
        "Leave the public link out (no --share, no tunnel), or write to the session's own disk.",
    )  # fmt: skip


def startup_files(effects: list[Effect], notebook: Notebook) -> Finding | None:
    """Writes to files that run by themselves later."""
    causes = [effect for effect in _of(effects, "destructive") if _STARTUP.search(effect.target)]
    if not causes:
        return None
    return _made(
        "startup-files", "warning", "It writes to files that run by themselves later", causes,
        f"{_names(causes)} is read at every start of a shell, login or interpreter; what is written there outlives the notebook.",
        "Run it in the box, where your home folder is not the real one.",
    )  # fmt: skip


def obfuscated_text_runs(effects: list[Effect], notebook: Notebook) -> Finding | None:
    """Encoded text is decoded and run."""
    causes = [effect for effect in _of(effects, "dynamic_code") if effect.detail.get("encoded")]
    if not causes:
        return None
    return _made(
        "obfuscated-text-runs", "danger", "Encoded text is decoded and run", causes,
        f"What runs here ({_names(causes)}) cannot be read in the notebook; there is hardly an honest reason to hide it.",
        "Decode it and read it before anything else.",
    )  # fmt: skip


def written_token(effects: list[Effect], notebook: Notebook) -> Finding | None:
    """A key stands in the code."""
    causes = [effect for effect in _of(effects, "credential") if effect.target.startswith("literal:")]
    if not causes:
        return None
    return _made(
        "token-in-the-notebook", "warning", "A token or password is written in the notebook", causes,
        "Whoever has this file has the account behind it, and runs of it act in that account's name.",
        "If it is yours, revoke it and ask for it at run time; if it is not, do not use it.",
    )  # fmt: skip


_QUIET_LINE = re.compile(
    r"^\s*(?:#.*|import\s[\w., ]+|from\s[\w.]+\s+import\s[\w.,* ()]+|[A-Za-z_]\w*\s*=\s*[\w.'\"-]+)?\s*$"
)


def _shows_nothing(source: str) -> bool:
    """Whether no line of a cell could have made a result: comments, imports, plain assignments."""
    return all(_QUIET_LINE.match(line) for line in source.split("\n"))


def scripts_in_outputs(effects: list[Effect], notebook: Notebook) -> Finding | None:
    """Stored results carry scripts in cells that show no sign of making them."""
    cells = [
        number for number, cell in enumerate(notebook.cells)
        if cell.type == "code" and cell.scripts and _shows_nothing(cell.source)
    ]  # fmt: skip
    if not cells:
        return None
    return Finding(
        id="scripts-in-outputs", severity="note", title="Stored results carry scripts that the code does not account for",
        cells=cells[:20], lines=[(cell, 1) for cell in cells[:20]],
        why="A viewer that trusts the notebook runs these scripts when the file is opened, before any cell is run.",
        fix="Clear all outputs before trusting the notebook.",
    )  # fmt: skip


_RULES: tuple[Callable[[list[Effect], Notebook], Finding | None], ...] = (
    secret_elsewhere, obfuscated_text_runs, fetched_text_runs, account_and_foreign_code, hidden_fetch_and_run,
    weights_that_run_code, public_server_and_drive, startup_files, written_token, scripts_in_outputs,
)  # fmt: skip
