"""Running scripts and programs: which of them came from outside, what their flags say, web UIs they start."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from allmend.planning.effects.targets import hub_name, is_url, plain
from allmend.planning.values import DERIVED, has_hole

if TYPE_CHECKING:
    from allmend.planning.effects.line import Line
    from allmend.planning.session import Session

_WEB_UI = re.compile(
    r"(?:^|/)(?:launch|webui|web|gui|kohya_gui|infer-web|infer_web|entry_with_update|relauncher|gradio_\w+|\w*_?webui\w*|\w*gradio\w*|"
    r"web_demo\w*|\w*_?gui|invoke|server|run_gradio\w*|webgui|start_web\w*|\w*_web_demo|webui[-_]\w+)\.(?:py|sh)$",
    re.IGNORECASE,
)
_MAYBE_UI = re.compile(r"(?:^|/)(?:app\w*|main|start|run|demo|inference_demo)\.(?:py|sh)$", re.IGNORECASE)
_UI_FLAGS = frozenset({"--share", "--listen", "--port", "--server_port", "--server-port", "--gradio", "--webui", "--colab",
                       "--dont-print-server", "--ngrok", "--enable-insecure-extension-access", "--is_share", "--public"})  # fmt: skip
_MODEL_FLAG = re.compile(
    r"^--?(?:pretrained_model_name_or_path|model_name_or_path|base_model|model_id|hf_model|pretrained_model|model_name|model|"
    r"base_model_name_or_path|pretrained_vae_model_name_or_path|tokenizer_name|model-path|model_path)$"
)
_DATASET_FLAG = re.compile(r"^--(?:dataset_name|hf_dataset|dataset-name)$")


def flags(session: Session, words: list[str]) -> None:
    """Flags that mean something whoever takes them."""
    for at, word in enumerate(words):
        head, sign, tail = word.partition("=")
        value = tail if sign else words[at + 1] if at + 1 < len(words) else ""
        low = value.strip("\"'").lower()
        if head in ("--share", "--is_share", "--gradio-share") and (not sign or low not in ("false", "0")):
            session.add("serve", "gradio-share", literal=True, detail={"public": "yes"})
        elif head in ("--ngrok", "--ngrok_token", "--ngrok-token", "--ngrok_authtoken"):
            session.add("serve", "ngrok", literal=True, detail={"public": "yes"})
        elif head in ("--cloudflared", "--cloudflare"):
            session.add("serve", "cloudflared", literal=True, detail={"public": "yes"})
        elif head in ("--localtunnel",):
            session.add("serve", "localtunnel", literal=True, detail={"public": "yes"})
        elif re.match(r"--(?:disable-safe-unpickle|no-safe-unpickle|allow-unsafe-load|disable_safe_unpickle)", head):
            session.add("unpickle", "flag:" + head.lstrip("-"), literal=True)
        elif head in ("--push_to_hub", "--push-to-hub") and low not in ("false", "0"):
            session.add("send", "huggingface", literal=True)
        elif head in ("--report_to", "--log_with", "--logger", "--report-to") and low in ("wandb", "all"):
            session.add("send", "wandb", literal=True)
        elif head in ("--hub_token", "--hf_token", "--hf-token", "--huggingface_token", "--use_auth_token") and value:
            session.add("credential", "huggingface", literal=True)
        elif head in ("--gpus", "--gpu", "--gpu_ids", "--gpu-ids", "--cuda", "--gpu_id", "--use_gpu", "--n_gpus") or (
            head in ("--device", "-device") and low.startswith(("cuda", "gpu"))
        ):
            from allmend.planning.effects import hardware

            if low not in ("-1", "0") or head in ("--gpu", "--gpus", "--gpu_ids", "--gpu-ids", "--gpu_id"):
                hardware.need(session, "gpu")


def _arguments(session: Session, line: Line, start: int) -> None:
    """Flags after a script, with the models and data sets that they name."""
    flags(session, line.words[start:])
    for at in range(start, len(line.words)):
        head, sign, tail = line.words[at].partition("=")
        if not head.startswith("-"):
            continue
        place = at if sign else at + 1
        value = tail if sign else line.words[place] if place < len(line.words) else ""
        value = value.strip("\"'")
        mark = "" if line.exact(place) else DERIVED
        if _MODEL_FLAG.match(head) and "/" in value and hub_name(value) and not session.world.was_made(value, line.cwd):
            line.add("model", place, mark + value, prefix="hf:")
        elif _DATASET_FLAG.match(head) and hub_name(value):
            line.add("dataset", place, mark + value, prefix="hf:")
        elif head == "--trust_remote_code" and value.lower() not in ("false", "0"):
            session.facts["remote"] = True


def again(session: Session, line: Line, at: int) -> None:
    """What stands from word `at` on is a command of its own."""
    from allmend.planning.effects import commands

    inner = line.command.tail(at)
    inner.from_python = False
    commands.run(session, inner, line.shell)


def python(session: Session, line: Line) -> None:
    """`python script.py`, `python -m module`, `python -c text`, `python < text`."""
    words = line.words
    at = 1
    while at < len(words):
        word = words[at]
        if word == "-c":
            if at + 1 < len(words):
                _text(session, line, at + 1)
            return
        if word == "-m" or (word.startswith("-m") and len(word) > 2 and not word.startswith("--")):
            place = at + 1 if word == "-m" else at
            if place < len(words):
                _module(session, line, place)
            return
        if word in ("-W", "-X", "-Q"):
            at += 2
        elif word == "-":
            break
        elif word.startswith("-"):
            at += 1
        else:
            break
    if at >= len(words) or words[at] in ("-", "/dev/stdin"):
        _piped(session, line)
        return
    ran(session, line, at)


def _text(session: Session, line: Line, at: int) -> None:
    text = line.words[at]
    if not has_hole(text):
        session.python_text(text, above=0)
    else:
        session.python_text(re.sub("\U000f0000\\d+\U000f0001", "_", text))


def _piped(session: Session, line: Line) -> None:
    """A program reads its text from a pipe or a heredoc."""
    if line.command.stdin is not None:
        above = line.command.line
        session.python_text(line.command.stdin, above=above)
        return
    for at, url in _fetched_before(session, line):
        session.add("foreign_code", url, literal=at, detail={"pinned": False}, line=line.command.line)


def _fetched_before(session: Session, line: Line) -> list[tuple[bool, str]]:
    """URLs fetched by the commands that are piped into this one."""
    found = []
    before = line.command.before
    for _ in range(6):
        if before is None:
            break
        name = posixpath.basename(before.program.replace(DERIVED, ""))
        if name in ("curl", "wget", "aria2c") or before.program in ("sudo",):
            for number, word in enumerate(before.words[1:], start=1):
                clean = plain(word)
                if is_url(clean) or re.match(r"(?:[\w-]+\.)+[a-z]{2,}/", clean):
                    found.append((before.literal[number] and DERIVED not in word, word))
        elif name in ("cat",):
            for word in before.words[1:]:
                origin = session.world.source_of(plain(word), before.cwd)
                if origin:
                    found.append((False, session.world.resolve(plain(word), before.cwd)))
        before = before.before
    return found


def _module(session: Session, line: Line, at: int) -> None:
    name = line.words[at].removeprefix("-m") if line.words[at].startswith("-m") else line.words[at]
    top = name.partition(".")[0]
    if name in ("pip", "pip3", "uv", "streamlit", "gdown", "spacy", "huggingface_hub.commands.huggingface_cli", "wandb", "ipython",
                "uvicorn", "flask", "gunicorn", "vllm", "tensorboard", "yt_dlp", "youtube_dl", "IPython", "jupyter", "kaggle",
                "easy_install", "poetry", "conda", "papermill", "pipx"):  # fmt: skip
        inner = line.command.tail(at)
        inner.words = [
            {"yt_dlp": "yt-dlp", "youtube_dl": "youtube-dl", "IPython": "ipython"}.get(name, name),
            *inner.words[1:],
        ]
        inner.from_python = False
        from allmend.planning.effects import commands

        commands.run(session, inner, line.shell)
        return
    if name == "http.server" or name == "SimpleHTTPServer":
        number = next((w for w in line.words[at + 1 :] if w.isdigit()), "8000")
        line.fixed("serve", f"port:{number}", public="no")
        return
    if name in (
        "torch.distributed.launch",
        "torch.distributed.run",
        "accelerate.commands.launch",
        "torch.distributed.elastic",
    ):
        _launched(session, line, at + 1)
        return
    if name == "accelerate" or name == "accelerate.launch":
        return
    if name == "nltk.downloader":
        for place in line.positional(("-d",), at + 1):
            line.add("dataset", place, prefix="nltk:")
        return
    if name.startswith("vllm.entrypoints"):
        given = line.option("--model")
        if given and hub_name(given[1]):
            line.add("model", given[0], given[1], prefix="hf:")
        from allmend.planning.effects import serving

        line.fixed("serve", serving.port(line, 8000), public="no")
        return
    _arguments(session, line, at + 1)
    world = session.world
    clone = world.clone_of(".", line.cwd)
    if clone is not None and not _known_module(session, top):
        path = world.resolve(name.replace(".", "/") + ".py", line.cwd)
        line.add("foreign_code", at, path, pinned=clone.pinned)
        return
    key = world.key(name.replace(".", "/") + ".py", line.cwd)
    if key in world.texts:
        session.python_text(world.texts[key][0], cell=world.texts[key][1])


def _known_module(session: Session, top: str) -> bool:
    import sys

    from allmend.planning.effects.imports import _installed

    return top in sys.stdlib_module_names or _installed(session, top)


_LAUNCH_VALUED = frozenset(
    [
        "--config_file",
        "--num_processes",
        "--num_machines",
        "--machine_rank",
        "--main_process_ip",
        "--main_process_port",
        "--mixed_precision",
        "--num_cpu_threads_per_process",
        "--gpu_ids",
        "--dynamo_backend",
        "--nproc_per_node",
        "--nproc-per-node",
        "--nnodes",
        "--node_rank",
        "--master_addr",
        "--master_port",
        "--include",
        "--num_gpus",
        "--hostfile",
        "--rdzv_backend",
        "--rdzv_endpoint",
        "--rdzv_id",
        "--deepspeed_config_file",
        "-n",
        "-np",
        "-H",
        "--zero_stage",
        "--gradient_accumulation_steps",
        "--use_env_never",
        "--master-port",
        "--rdzv-backend",
        "--rdzv-endpoint",
        "--standalone_never",
        "--multi_gpu_never",
        "--deepspeed_multinode_launcher",
        "--fsdp_offload_params",
        "--bind-to",
        "-x",
        "--mca",
        "--log-dir",
    ]
)


def _launched(session: Session, line: Line, start: int) -> None:
    places = line.positional(_LAUNCH_VALUED, start)
    if line.option("--num_gpus", "--nproc_per_node", "--gpu_ids") or line.flag("--multi_gpu"):
        from allmend.planning.effects import hardware

        hardware.need(session, "gpu")
    if not places:
        return
    at = places[0]
    if line.flag("-m", "--module") and line.words.index(next(w for w in line.words if w in ("-m", "--module"))) < at:
        _module(session, line, at)
    elif re.fullmatch(r"python[\d.]*", posixpath.basename(line.words[at])):
        again(session, line, at)
    else:
        ran(session, line, at)


def accelerate(session: Session, line: Line) -> None:
    """`accelerate launch script.py`."""
    if "launch" in line.words[1:]:
        _launched(session, line, line.words.index("launch") + 1)


def launcher(session: Session, line: Line) -> None:
    """`torchrun script.py`, `deepspeed script.py`."""
    _launched(session, line, 1)


def ran(session: Session, line: Line, at: int) -> None:
    """The script at word `at` runs with the words after it."""
    given = line.command.environment.get("COMMANDLINE_ARGS", "")
    if not given:
        known = session.world.environment.get("COMMANDLINE_ARGS")
        given = known if isinstance(known, str) else ""
    words = [*line.words[at + 1 :], *plain(given).split()]
    script(session, line.words[at], line.cwd, literal=line.exact(at), words=words, at_line=line.command.line)
    if given:
        flags(session, plain(given).split())
    _arguments(session, line, at + 1)


def script(
    session: Session, path: str, cwd: str, *, literal: bool, words: list[str] | None = None, quiet: bool = False,
    magic: bool = False, at_line: int | None = None,
) -> None:  # fmt: skip
    """A script runs: its own text is followed if the notebook wrote it, else it is listed if it came from outside."""
    world = session.world
    path = plain(path).strip("\"'")
    if not path:
        return
    mark = "" if literal else DERIVED
    if is_url(path):
        session.add("foreign_code", mark + path, literal=literal, detail={"pinned": False}, line=at_line)
        if magic:
            from allmend.planning.effects.targets import host_of

            session.add("download", mark + path, literal=literal, detail={"host": host_of(path)}, line=at_line)
        return
    key = world.key(path, cwd)
    if key in world.texts:
        text, cell = world.texts[key]
        _own(session, path, text, cell, cwd, words or [])
        return
    clone = world.clone_of(path, cwd)
    origin = world.source_of(path, cwd)
    full = mark + world.resolve(path, cwd)
    if has_hole(path):
        if clone is not None or (world.clones and _WEB_UI.search(path)):
            session.add(
                "foreign_code", full, literal=False, detail={"pinned": bool(clone and clone.pinned)}, line=at_line
            )
    elif clone is not None or origin is not None:
        session.add(
            "foreign_code", full, literal=literal, detail={"pinned": bool(clone and clone.pinned)}, line=at_line
        )
        session.follow(path, cwd, clone)
    if not quiet:
        _web_ui(session, path, words or [], outside=clone is not None or origin is not None, line=at_line)


def _own(session: Session, path: str, text: str, cell: int, cwd: str, words: list[str]) -> None:
    saved = session.python.place
    from allmend.planning.values import Place

    if path.endswith((".sh", ".bash")) or text.lstrip().startswith(("#!/bin/bash", "#!/bin/sh", "#!/usr/bin/env bash")):
        session.python.place = Place(cell, 0, tuple(text.split("\n")))
        session.shell_text(text, first_line=1, cwd=cwd, positional=words)
        session.python.place = saved
    elif path.endswith(".ipynb"):
        return
    else:
        before = session.world.state["<cwd>"]
        session.python_text(text, cell=cell)
        session.world.state["<cwd>"] = before


def _web_ui(session: Session, path: str, words: list[str], *, outside: bool, line: int | None) -> None:
    given = {word.partition("=")[0] for word in words}
    looks: object = _WEB_UI.search(path) or (_MAYBE_UI.search(path) and given & _UI_FLAGS) or "--share" in given
    comfy = re.search(r"comfy", path, re.IGNORECASE) or re.search(r"comfy", session.world.cwd, re.IGNORECASE)
    looks = looks or (comfy and path.endswith("main.py"))
    if not looks or not (outside or given & _UI_FLAGS) or "--exit" in given:
        return
    if any(word.partition("=")[0] == "--share" and not word.lower().endswith("=false") for word in words):
        session.add("serve", "gradio-share", literal=True, detail={"public": "yes"}, line=line)
        return
    number = None
    for at, word in enumerate(words):
        head, sign, tail = word.partition("=")
        value = tail if sign else words[at + 1] if at + 1 < len(words) else ""
        if head in ("--port", "--server_port", "--server-port", "--listen-port", "--api-port") and re.fullmatch(
            r"\d{2,5}", value
        ):
            number = value
    session.add("serve", f"port:{number}" if number else "launch", literal=True, detail={"public": "no"}, line=line)


def bash(session: Session, line: Line) -> None:
    """`bash script.sh`, `bash -c text`, `curl .. | bash`."""
    words = line.words
    at = 1
    while at < len(words) and words[at].startswith("-") and words[at] != "-":
        if "c" in words[at][1:] and not words[at].startswith("--"):
            if at + 1 < len(words):
                session.shell_text(
                    line.raw[at + 1], first_line=line.command.line, cwd=line.cwd, positional=words[at + 3 :]
                )
            return
        at += 1
    if at >= len(words) or words[at] in ("-", "/dev/stdin"):
        flags(session, words[at + 1 :])
        if line.command.stdin is not None:
            session.shell_text(line.command.stdin, first_line=line.command.line + 1, cwd=line.cwd)
        for exact, url in _fetched_before(session, line):
            session.add("foreign_code", url, literal=exact, detail={"pinned": False}, line=line.command.line)
        return
    if "output of a command" in session.holes.reason(words[at]) and has_hole(words[at]):
        source = session.holes.shown(words[at])
        match = re.search(r"https?://[^\s)\"']+", source)
        if match:
            session.add("foreign_code", match[0], literal=True, detail={"pinned": False}, line=line.command.line)
        return
    script(session, words[at], line.cwd, literal=line.exact(at), words=words[at + 1 :], at_line=line.command.line)
    flags(session, words[at + 1 :])


def source(session: Session, line: Line) -> None:
    """`source script.sh`."""
    if len(line.words) > 1:
        script(session, line.words[1], line.cwd, literal=line.exact(1), at_line=line.command.line, quiet=True)


def interpreter(session: Session, line: Line) -> None:
    """Another language's interpreter with a script."""
    places = line.positional(("-e", "-cp", "-classpath"))
    given = line.option("-jar")
    at = given[0] if given else places[0] if places else None
    if at is not None:
        script(
            session,
            line.words[at],
            line.cwd,
            literal=line.exact(at),
            words=line.words[at + 1 :],
            at_line=line.command.line,
        )


def here(session: Session, line: Line, name: str) -> None:
    """Something in the working folder runs: foreign if the folder came from outside."""
    clone = session.world.clone_of(".", line.cwd)
    if clone is not None or session.world.source_of(".", line.cwd):
        path = session.world.resolve(name, line.cwd)
        line.add("foreign_code", 0, path, pinned=bool(clone and clone.pinned))


def make(session: Session, line: Line) -> None:
    """`make`, `cmake`, `ninja` of fetched source."""
    given = line.option("-C", "--build", "-S")
    folder = given[1] if given else "."
    if line.name == "cmake" and not given:
        places = line.positional(("-D", "-G", "-B"))
        folder = next((line.words[at] for at in places if not line.words[at].startswith("-")), ".")
    clone = session.world.clone_of(folder, line.cwd)
    if clone is not None or session.world.source_of(folder, line.cwd):
        line.add("foreign_code", 0, session.world.resolve(folder, line.cwd) or ".", pinned=bool(clone and clone.pinned))


def papermill(session: Session, line: Line) -> None:
    """`papermill notebook.ipynb`."""
    places = line.positional(("-p", "-f", "-k", "-r", "-y"))
    if places:
        script(
            session,
            line.words[places[0]],
            line.cwd,
            literal=line.exact(places[0]),
            at_line=line.command.line,
            quiet=True,
        )


def jupyter(session: Session, line: Line) -> None:
    """`jupyter lab`, `jupyter nbconvert --execute`."""
    from allmend.planning.effects import serving

    if line.words[1:2] in (["lab"], ["notebook"], ["server"]):
        serving.notebook(session, line)
    elif "--execute" in line.words:
        places = line.positional(("--to", "--output", "--ExecutePreprocessor.timeout"), 2)
        if places:
            script(
                session,
                line.words[places[0]],
                line.cwd,
                literal=line.exact(places[0]),
                at_line=line.command.line,
                quiet=True,
            )


def nvidia(session: Session, line: Line) -> None:
    """`nvidia-smi` shows that a GPU is expected."""
    from allmend.planning.effects import hardware

    hardware.need(session, "gpu", line=line.command.line)


def golang(session: Session, line: Line) -> None:
    """`go install URL`, `cargo install`."""
    if line.words[1:2] == ["install"] and len(line.words) > 2:
        at = next((n for n in range(2, len(line.words)) if not line.words[n].startswith("-")), None)
        if at is not None:
            line.add("foreign_code", at, pinned=False)


def docker(session: Session, line: Line) -> None:
    """`docker run IMAGE`, `docker pull IMAGE`."""
    if len(line.words) > 2 and line.words[1] in ("run", "pull"):
        places = line.positional(
            ("-v", "-p", "-e", "--name", "--network", "-w", "--gpus", "--volume", "--publish", "--env"), 2
        )
        for at in places[:1]:
            line.add("foreign_code", at, pinned="@sha256:" in line.words[at])


def started(session: Session, line: Line) -> None:
    """A program that was fetched, or lies in a clone, is started by its path."""
    word = line.words[0]
    if "/" not in word or has_hole(word):
        return
    world = session.world
    clone = world.clone_of(word, line.cwd)
    loose = (
        session.facts.get("loose")
        and not word.startswith(("/usr", "/bin", "/opt", "~"))
        and not world.was_made(word, line.cwd)
    )
    if clone is None and world.source_of(word, line.cwd) is None and not loose:
        return
    key = world.key(word, line.cwd)
    if key in world.texts:
        return
    line.add("foreign_code", 0, world.resolve(word, line.cwd), pinned=bool(clone and clone.pinned))


def program(session: Session, line: Line) -> None:
    """Any other program: foreign if its path leads into what was fetched; its flags speak for themselves."""
    if not line.words:
        return
    word = line.words[0]
    key = session.world.key(word, line.cwd)
    if "/" in word and key in session.world.texts:
        text, cell = session.world.texts[key]
        _own(session, word, text, cell, line.cwd, line.words[1:])
        return
    if "/" in word and word.endswith((".sh", ".py", ".run", ".bash")):
        script(session, word, line.cwd, literal=line.exact(0), words=line.words[1:], at_line=line.command.line)
    elif has_hole(word):
        return
    else:
        started(session, line)
    flags(session, line.words[1:])
