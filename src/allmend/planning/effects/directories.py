"""Folders and files: where the notebook works, what it deletes or overwrites, and what it does under the Drive."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from allmend.planning.evaluation.values import DERIVED, HOLE_START, Made, Value, has_hole, options, strings

if TYPE_CHECKING:
    from allmend.planning.evaluation.calls import Call
    from allmend.planning.session import Session

SYSTEM = re.compile(
    r"^/$|^/(?:usr|etc|opt|lib|lib64|bin|sbin|var|root|home|boot)(?:/|$)|(?:site|dist)-packages(?:/|$)|^~/?$|"
    r"^~/\.(?:bash|zsh|profile|ssh|config|local/lib|ipython|jupyter|bash_profile)"
)
_HARMLESS = re.compile(
    r"^/(?:dev|tmp|proc|sys)(?:/|$)|^/(?:root|home/\w+)/\.(?:kaggle|cache|huggingface|config|aria2|netrc)|"
    r"^/usr/local/(?:bin|share/fonts)/?|^/etc/apt/|^/usr/share/(?:fonts|keyrings)|^/var/(?:tmp|lib/apt|cache)"
)
_WRITES = re.compile(
    r"(?:^|\.)(?:to_(?:csv|parquet|json|excel|pickle|hdf|feather|numpy)|save\w*|write\w*|dump|makedirs|mkdir|imwrite|touch|"
    r"savefig|export\w*|ModelCheckpoint|CSVLogger|TensorBoard|make_archive|snapshot|render_video|rename|symlink|"
    r"urlretrieve|download_url_to_file|download_url|cached_download|download_file\w*)$"
)
_MAKES = re.compile(
    r"(?:save\w*|export\w*|[bB]uilder|mkdtemp|make_archive|dump|to_csv|to_parquet|Experiment|init_repo)$"
)
"""Calls that make the files and folders named in them: deleting those again is nothing."""
_READS = re.compile(
    r"load|read|open|glob|listdir|walk|Dataset|from_|show|play|Image|Video|Audio|extract|scan|import", re.IGNORECASE
)
"""Calls that are not known count as a read of the Drive only when their name says so."""
_TWO_PATHS = frozenset({"shutil.copy", "shutil.copyfile", "shutil.copy2", "shutil.copytree", "shutil.move", "os.rename",
                        "os.replace", "os.symlink", "os.link", "shutil.unpack_archive"})  # fmt: skip
_OUTPUT_KEYWORDS = re.compile(r"out|save|dest|target|log|checkpoint|ckpt_dir|cache|export|result", re.IGNORECASE)
_SILENT = frozenset({"builtins.print", "builtins.len", "builtins.isinstance", "os.path.exists", "os.path.isdir",
                     "os.path.isfile", "google.colab.drive.mount", "google.colab.drive.flush_and_unmount", "builtins.type",
                     "sys.path.append", "sys.path.insert", "builtins.input", "os.path.islink", "os.path.relpath",
                     "os.path.lexists", "path.exists", "path.is_dir", "path.is_file", "str.split", "str.replace",
                     "list.append", "builtins.display", "warnings.warn", "builtins.str"})  # fmt: skip


_NAMED = frozenset({"model", "dataset", "foreign_code", "clone", "send"})
"""What calls of these kinds are given is a name of a service; only what is plainly a path is one."""


_OF_FILES = ("os.", "shutil.", "builtins.open", "io.", "path.", "glob.", "pandas.", "numpy.", "torch.")
"""Calls that take paths, also such with spaces."""


def entered(session: Session, path: str) -> None:
    """The notebook, or a shell of it, went into `path`."""
    under_drive(session, path, "read", cwd="")


def under_drive(session: Session, path: str, mode: str, *, literal: bool = False, cwd: str | None = None) -> bool:
    """List `path` when it lies under the mounted Drive."""
    if has_hole(path) and not path.replace(DERIVED, "").startswith(("/", "drive", "gdrive")):
        return False
    full = session.world.drive(path, cwd)
    if full is None:
        return False
    if has_hole(full):
        # A name made in a loop or from the clock: the folder it lies in is what can be said.
        full = full.split(HOLE_START)[0].rpartition("/")[0]
        literal = False
        if not full.strip("/") or session.world.drive(full, "") is None:
            return False
        path = DERIVED
    session.add("personal_files", (DERIVED if DERIVED in path else "") + full.rstrip("/"), literal=literal, prefix="drive:",
                detail={"mode": mode})  # fmt: skip
    return True


def on_call(session: Session, call: Call) -> None:
    """Calls that move about, delete, or touch the Drive."""
    path = call.path
    world = session.world
    if path == "os.chdir" or path == "contextlib.chdir":
        change(session, call)
        return
    if path == "google.colab.drive.mount":
        value, _ = call.get(0, "mountpoint")
        if isinstance(value, str):
            mount = value.replace(DERIVED, "").rstrip("/")
            if mount not in world.mounts:
                world.mounts.append(mount)
        return
    if path in ("sys.path.append", "sys.path.insert", "sys.path.extend", "site.addsitedir"):
        for value in call.args:
            for _, item in options(value):
                for text in item if isinstance(item, list) else [item]:
                    if isinstance(text, str) and len(world.search) < 200:
                        world.search.append(world.resolve(text).replace(DERIVED, ""))
        return
    if path == "shutil.rmtree":
        remove(session, *call.get(0, "path"))
    elif path in ("os.makedirs", "os.mkdir", "path.mkdir", "path.touch"):
        value = call.receiver if path.startswith("path.") else call.get(0, "name", "path")[0]
        for text in strings(value):
            world.make(text)
    elif path in _TWO_PATHS:
        _two(session, call)
        return
    elif (
        path == "os.kill" and isinstance(call.args[0] if call.args else None, Made) and "getpid" in call.args[0].path
    ) or (path in ("os._exit", "builtins.exit", "builtins.quit", "sys.exit") and path == "os._exit"):
        session.add("destructive", "kill-runtime", literal=True)
    if path.endswith(
        (".save_pretrained", ".save_model", ".save", ".save_to_disk", ".save_pretrained_merged", ".save_weights")
    ):
        value, _ = call.get(0, "save_directory", "output_dir", "filepath", "dataset_path")
        for text in strings(value):
            world.saved.add(world.key(text))
    if _MAKES.search(path):
        for value in (*call.args[:3], *call.keywords.values()):
            for text in strings(value):
                if 0 < len(text) < 200 and "\n" not in text and "://" not in text:
                    world.make(text)
    if path not in _SILENT:
        _drive_arguments(session, call)


def change(session: Session, call: Call) -> None:
    """`os.chdir`."""
    value, _ = call.get(0, "path")
    texts = [text for _, text in options(value) if isinstance(text, str)]
    if texts:
        go(session, texts[0])


def go(session: Session, text: str) -> None:
    """Change the notebook's own working directory."""
    target = session.world.resolve(text).replace(DERIVED, "")
    session.journal.set(session.world.state, "<cwd>", "" if target == "." else target)
    entered(session, target)


def _two(session: Session, call: Call) -> None:
    source, _ = call.get(0, "src", "filename")
    target, _ = call.get(1, "dst", "extract_dir")
    for _, text in options(source):
        if isinstance(text, str):
            under_drive(session, text, "read")
    for _, text in options(target):
        if isinstance(text, str):
            if call.path == "os.symlink" and isinstance(source, str):
                drive = session.world.drive(source)
                if drive:
                    session.world.links[session.world.resolve(text).replace(DERIVED, "")] = drive
                continue
            written(session, text, cwd=None)


def written(session: Session, path: str, *, cwd: str | None, literal: bool = False) -> None:
    """Something is written at `path`: under the Drive, over system folders, or in the working folder."""
    if under_drive(session, path, "write", literal=literal, cwd=cwd):
        return
    full = session.world.resolve(path, cwd).replace(DERIVED, "")
    if SYSTEM.search(full) and not _HARMLESS.search(full) and session.world.clone_of(full, "") is None:
        if session.world.was_made(full, ""):
            return
        session.add("destructive", full, literal=literal)
    else:
        session.world.make(path, cwd)


def remove(session: Session, value: Value, node: object, cwd: str | None = None) -> None:
    """A recursive delete; judged when all that the notebook made is known."""
    import ast

    for _, option in options(value):
        exact = isinstance(node, ast.Constant)
        if isinstance(option, str) and not has_hole(option):
            full = session.world.resolve(option, cwd).replace(DERIVED, "")
            key = session.world.key(option, cwd)
            if session.world.drive(full, ""):
                under_drive(session, full, "write", cwd="")
            session.removals.append((key, full, session.python.place, session.line, exact and DERIVED not in option))
        elif isinstance(node, ast.AST):
            session.add("destructive", option, node=node)
        elif isinstance(option, str):
            session.add("destructive", option)


def judge_removals(session: Session) -> None:
    """Deleting what the notebook itself made is nothing; the rest is listed."""
    for key, target, place, line, literal in session.removals:
        if key and (session.world.was_made(key, "") or session.world.clone_of(key, "") is not None):
            continue
        if any(sign in key for sign in "*?[") and _made_like(session, key):
            continue
        if any(made.startswith(key.rstrip("/*") + "/") for made in session.world.made if key and len(key) > 3):
            continue
        saved, session.python.place = session.python.place, place
        session.add("destructive", target, literal=literal, line=line)
        session.python.place = saved


def _made_like(session: Session, pattern: str) -> bool:
    """Whether a glob names something that the notebook made: `clip*` after `clip.mp4` was written."""
    import fnmatch

    if not pattern.strip("*./"):
        return False
    world = session.world
    depth = pattern.count("/")
    return any(
        fnmatch.fnmatchcase(made, pattern) and made.count("/") == depth
        for names in (world.made, world.texts, world.fetched)
        for made in names
    )


def _drive_arguments(session: Session, call: Call) -> None:
    world = session.world
    path = call.path
    writes = bool(_WRITES.search(path))
    if path.startswith("?") and not writes and not _READS.search(path):
        return
    if (
        isinstance(call.receiver, str)
        and path.startswith("path.")
        and path.rpartition(".")[2]
        in (
            "write_text",
            "write_bytes",
            "read_text",
            "read_bytes",
            "iterdir",
            "glob",
            "rglob",
            "open",
            "mkdir",
            "unlink",
        )
    ):
        mode = "write" if path.rpartition(".")[2] in ("write_text", "write_bytes", "mkdir", "unlink") else "read"
        under_drive(session, call.receiver, mode)
    if path in ("builtins.open", "io.open", "codecs.open"):
        mode_value, _ = call.get(1, "mode")
        writes = isinstance(mode_value, str) and any(sign in mode_value for sign in "wax+")
    writes = writes or path in ("gdown.download", "gdown.download_folder", "wget.download")
    named = any(row.kind in _NAMED for row in session.tables.rows(path))
    given: list[tuple[str, Value]] = [("", value) for value in call.args[:6]]
    given.extend(call.keywords.items())
    for name, value in given:
        for _, option in options(value):
            items = option if isinstance(option, list | tuple) else [option]
            for item in items[:20]:
                if not isinstance(item, str) or "/" not in item or "://" in item or len(item) > 500 or "\n" in item:
                    continue
                if not item.replace(DERIVED, "").startswith(("/", ".", "~", "drive/", "gdrive/")) and (
                    named or (" " in item and not path.startswith(_OF_FILES))
                ):
                    continue  # A name of a service, or words: no path.
                if world.drive(item):
                    mode = "write" if writes or (name and _OUTPUT_KEYWORDS.search(name)) else "read"
                    under_drive(session, item, mode)
