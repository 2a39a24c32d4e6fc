"""Ports, tunnels and public links opened from the shell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from allmend.planning.effects.targets import hub_name
from allmend.planning.evaluation.values import has_hole

if TYPE_CHECKING:
    from allmend.planning.effects.line import Line
    from allmend.planning.session import Session


def port(line: Line, default: int | None, *names: str) -> str:
    """`port:N` from a flag, or from the program's own default."""
    given = line.option(*(names or ("--port", "-p")))
    if given and re.fullmatch(r"\d{2,5}", given[1].strip("\"'")):
        return "port:" + given[1].strip("\"'")
    return f"port:{default}" if default else "launch"


def ngrok(session: Session, line: Line) -> None:
    """`ngrok http 80`, `ngrok authtoken ..`."""
    words = line.words[1:]
    if "authtoken" in words or "add-authtoken" in words:
        line.fixed("credential", "ngrok")
    elif any(word in ("http", "tcp", "tls", "start") for word in words):
        line.fixed("serve", "ngrok", public="yes")


def cloudflared(session: Session, line: Line) -> None:
    """`cloudflared tunnel --url ..`."""
    if "tunnel" in line.words or "--url" in line.words:
        line.fixed("serve", "cloudflared", public="yes")
    from allmend.planning.effects import programs

    programs.started(session, line)


def localtunnel(session: Session, line: Line) -> None:
    """`lt --port N`."""
    line.fixed("serve", "localtunnel", public="yes")


def named_tunnel(session: Session, line: Line, name: str) -> None:
    """A tunnel known by its package's name."""
    known = {"lt": "localtunnel", "localtunnel": "localtunnel", "ngrok": "ngrok", "cloudflared": "cloudflared"}
    line.fixed("serve", known.get(name, f"tunnel:{name}"), public="yes")


def tunnel(session: Session, line: Line) -> None:
    """Other tunnels."""
    if len(line.words) > 1:
        name = {"loclx": "localxpose", "frpc": "frp", "tmole": "tunnelmole"}.get(line.name, line.name)
        line.fixed("serve", f"tunnel:{name}", public="yes")


def code_server(session: Session, line: Line) -> None:
    """`code-server --port N`; with `--install-extension` it only installs."""
    if not any(word.startswith(("--install-extension", "--list-extensions", "--version")) for word in line.words[1:]):
        line.fixed("serve", port(line, None), public="no")


def ssh(session: Session, line: Line) -> None:
    """`ssh -R 80:localhost:80 HOST`."""
    if not any(re.fullmatch(r"-\w*R\w*(?:\d.*)?", word) or word.startswith("-R") for word in line.words[1:]):
        return
    places = line.positional(("-R", "-L", "-p", "-i", "-o", "-l", "-D"), letters="RLpiolD")
    host = line.words[places[0]].rpartition("@")[2] if places else ""
    if host in ("localhost", "127.0.0.1", ""):
        return
    known = {"serveo.net": "serveo", "localhost.run": "localhost.run", "nokey@localhost.run": "localhost.run",
             "a.pinggy.io": "pinggy", "free.pinggy.io": "pinggy"}  # fmt: skip
    line.fixed("serve", f"tunnel:{known.get(host, host)}", public="yes")


def streamlit(session: Session, line: Line) -> None:
    """`streamlit run app.py`."""
    from allmend.planning.effects import scripts

    words = line.words
    if len(words) < 2 or words[1] not in ("run", "hello", "serve"):
        return
    places = line.positional(("--server.port", "--server.address", "--port"), 2)
    defaults = {"streamlit": 8501, "chainlit": 8000, "panel": 5006}
    target = port(line, None, "--server.port", "--port")
    line.fixed("serve", target if target != "launch" else "launch", public="no")
    del defaults
    if places:
        scripts.script(session, words[places[0]], line.cwd, literal=line.exact(places[0]), quiet=True)


def gradio(session: Session, line: Line) -> None:
    """`gradio app.py`."""
    from allmend.planning.effects import scripts

    places = line.positional()
    if places:
        line.fixed("serve", "launch", public="no")
        scripts.script(session, line.words[places[0]], line.cwd, literal=line.exact(places[0]), quiet=True)


def tensorboard(session: Session, text: str) -> None:
    """`%tensorboard`."""
    match = re.search(r"--port[ =](\d+)", text)
    session.add("serve", f"port:{match[1]}" if match else "launch", literal=True, detail={"public": "no"})
    _tensorboard_folder(session, text)


def _tensorboard_folder(session: Session, text: str) -> None:
    from allmend.planning.effects import directories
    from allmend.planning.substitution import substitute

    match = re.search(r"--logdir[ =](\S+)", text)
    if match:
        directories.under_drive(session, substitute(session.python, match[1].strip("\"'"))[0], "read")


def tensorboard_command(session: Session, line: Line) -> None:
    """`tensorboard --logdir ..`."""
    if line.words[1:2] == ["dev"]:
        line.fixed("send", "tensorboard.dev")
    else:
        line.fixed("serve", port(line, None), public="no")


def vllm(session: Session, line: Line) -> None:
    """`vllm serve MODEL`."""
    words = line.words
    if words[1:2] in (["serve"], ["chat"]) and len(words) > 2:
        at = line.positional(("--port", "--host"), 2)[:1]
        for place in at:
            if hub_name(words[place]) or has_hole(words[place]):
                line.add("model", place, prefix="hf:")
        line.fixed("serve", port(line, 8000), public="no")
    given = line.option("--model-id", "--model")
    if given and hub_name(given[1]):
        line.add("model", given[0], given[1], prefix="hf:")


def web(session: Session, line: Line) -> None:
    """`uvicorn`, `flask run`, `gunicorn`."""
    default = {"flask": 5000}.get(line.name, 8000)
    bind = line.option("-b", "--bind")
    match = re.search(r":(\d+)$", bind[1]) if bind else None
    line.fixed("serve", f"port:{match[1]}" if match else port(line, default), public="no")


def mlflow(session: Session, line: Line) -> None:
    """`mlflow ui`, `mlflow server`."""
    if line.words[1:2] in (["ui"], ["server"], ["models"]):
        line.fixed("serve", port(line, 5000), public="no")


def notebook(session: Session, line: Line) -> None:
    """`jupyter lab`."""
    line.fixed("serve", port(line, None), public="no")


def fiftyone(session: Session, line: Line) -> None:
    """`fiftyone app launch`."""
    if "launch" in line.words:
        line.fixed("serve", "launch", public="no")
