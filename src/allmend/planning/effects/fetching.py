"""Fetching: wget, curl, aria2c, gdown, cloud tools, hubs, and sending by the same programs."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from allmend.planning.effects.targets import drive_host, drive_id, host_of, is_url, loopback, plain
from allmend.planning.evaluation.values import DERIVED, has_hole

if TYPE_CHECKING:
    from allmend.planning.effects.line import Line
    from allmend.planning.session import Session

_NAMED = re.compile(r"^\$\{?(\w+)\}?$|(?:userdata\.get|getenv|environ(?:\.get)?)[\[(]\s*['\"](\w+)")

_ADDRESS = re.compile(r"^(?:[\w-]+\.)+[a-z]{2,}(?:/|$)", re.IGNORECASE)


def fetched(session: Session, line: Line, at: int, url: str, path: str | None, cwd: str | None = None) -> None:
    """List one download and note the file that it makes."""
    url = plain(url).strip("\"'<>")
    if url.startswith(("fhttp://", "fhttps://")):
        url = url[1:]  # An f-string's prefix that was left in a shell line.
    if not url or loopback(url):
        return
    mark = "" if line.exact(at) else DERIVED
    if drive_host(url) and not has_hole(url):
        # wget and curl take the page's own URL; only gdown reads the id out of it.
        pass
    line.add("download", at, mark + url, host=host_of(url), **_carried(line))
    base = line.cwd if cwd is None else cwd
    if path is None:
        path = posixpath.basename(re.sub(r"[?#].*$", "", url)) or "index.html"
    if path not in ("-", "/dev/null", "/dev/stdout"):
        session.world.fetched[session.world.key(path.strip("\"'"), base)] = url
        from allmend.planning.effects import directories

        directories.written(session, path.strip("\"'"), cwd=base, literal=False)


def _carried(line: Line) -> dict[str, str]:
    """The secret that a request of the shell carries in its address, headers or body, if it does."""
    from allmend.planning.secrets import key_like

    for word in line.words[1:]:
        for hole in line.session.holes.within(word):
            match = _NAMED.search(hole.source)
            found = match and (match[1] or match[2])
            if found and key_like(found):
                return {"secret": found}
    return {}


def _candidates(line: Line, places: list[int]) -> list[int]:
    """The places of words that are addresses."""
    found = []
    for at in places:
        word = line.words[at].strip("\"'<>")
        if is_url(word) or has_hole(word) or _ADDRESS.match(word):
            found.append(at)
    return found


_WGET = ("--output-document", "--directory-prefix", "--header", "--user-agent", "--user", "--password", "--post-data",
         "--load-cookies", "--save-cookies", "--tries", "--timeout", "--input-file", "--referer", "--limit-rate", "--wait",
         "--cut-dirs", "--level", "--accept", "--reject", "--http-user", "--http-password", "--output-file", "--method",
         "--body-data", "--progress-never", "--post-file", "--execute", "--domains")  # fmt: skip


def wget(session: Session, line: Line) -> None:
    """`wget URL..`, `wget -i LIST`."""
    places = line.positional(_WGET, letters="OPoatTUielARwQDBIX")
    output = line.short("O", "--output-document")
    folder = line.short("P", "--directory-prefix")
    listed = line.short("i", "--input-file")
    if listed:
        if is_url(listed[1]):
            fetched(session, line, listed[0], listed[1], None)
        line.session.record.add("download", f"wget -i {session.holes.shown(listed[1])}", place=session.python.place,
                                line=line.command.line, reason="the list of addresses is read while the notebook runs")  # fmt: skip
    cookies = line.option("--save-cookies")
    if cookies and not has_hole(cookies[1]):
        session.world.make(cookies[1], line.cwd)
    posted = line.option("--post-data", "--post-file", "--body-data")
    for at in _candidates(line, places):
        url = line.words[at]
        if posted:
            _sent(line, at, url)
            continue
        cwd = session.world.resolve(folder[1], line.cwd) if folder else None
        fetched(session, line, at, _with_scheme(url), output[1] if output else None, cwd)


def _with_scheme(url: str) -> str:
    return url


def _sent(line: Line, at: int, url: str) -> None:
    host = host_of(url if "://" in url else "//" + url)
    if host and not loopback("//" + host):
        line.add("send", at, host + ("" if line.exact(at) else DERIVED), **_carried(line))
    elif not host:
        line.add("send", at)


_CURL = ("--output", "--header", "--data", "--data-raw", "--data-binary", "--data-urlencode", "--request", "--user",
         "--user-agent", "--cookie", "--cookie-jar", "--referer", "--form", "--upload-file", "--proxy", "--max-time",
         "--connect-timeout", "--retry", "--retry-delay", "--write-out", "--config", "--continue-at", "--url", "--resolve",
         "--cacert", "--cert", "--key", "--limit-rate", "--range", "--json", "--form-string", "--output-dir",
         "--max-redirs", "--aws-sigv4", "--unix-socket", "--retry-max-time", "--dump-header")  # fmt: skip


def curl(session: Session, line: Line) -> None:
    """`curl URL..`."""
    places = line.positional(_CURL, letters="oHdXubcAeFTxmwKCyYzEtQDr")
    named = line.option("--url")
    candidates = _candidates(line, places)
    if named:
        candidates.append(named[0])
    output = line.short("o", "--output")
    method = line.short("X", "--request")
    sends = (
        line.flag("-d", "--data", "--data-raw", "--data-binary", "-F", "--form", "-T", "--upload-file", "--json",
                  "--data-urlencode")
        or (method is not None and method[1].upper() in ("POST", "PUT", "PATCH", "DELETE"))
    )  # fmt: skip
    remote = line.short("O", "--remote-name") is not None or any(
        re.fullmatch(r"-\w*O\w*", word) or word in ("--remote-name", "--remote-name-all") for word in line.words[1:]
    )
    for at in candidates:
        url = line.words[at].removeprefix("--url=")
        if loopback(url if "://" in url else "//" + url):
            continue
        if sends and not (method is not None and method[1].upper() == "GET"):
            _sent(line, at, url)
            continue
        fetched(session, line, at, url, output[1] if output else (None if remote else "-"))


def aria2c(session: Session, line: Line) -> None:
    """`aria2c URL -d DIR -o NAME`."""
    valued = ("--dir", "--out", "--max-connection-per-server", "--split", "--min-split-size", "--header", "--input-file",
              "--max-tries", "--timeout", "--load-cookies", "--user-agent", "--console-log-level", "--summary-interval",
              "--file-allocation", "--referer", "--retry-wait", "--max-concurrent-downloads", "--checksum")  # fmt: skip
    places = line.positional(valued, letters="dxskjoliU")
    folder, output = line.short("d", "--dir"), line.short("o", "--out")
    listed = line.short("i", "--input-file")
    if listed:
        session.record.add("download", f"aria2c -i {session.holes.shown(listed[1])}", place=session.python.place,
                           line=line.command.line, reason="the list of addresses is read while the notebook runs")  # fmt: skip
    for at in _candidates(line, places):
        cwd = session.world.resolve(folder[1], line.cwd) if folder else None
        fetched(session, line, at, line.words[at], output[1] if output else None, cwd)


def axel(session: Session, line: Line) -> None:
    """`axel URL`."""
    for at in _candidates(line, line.positional(letters="noHUS")):
        fetched(session, line, at, line.words[at], None)


def gdown(session: Session, line: Line) -> None:
    """`gdown ID`, `gdown --id ID`, `gdown URL`, `gdown --folder`."""
    given = line.option("--id")
    output = line.short("O", "--output")
    places = line.positional(("--id", "--output", "--proxy", "--speed", "--format"), letters="O")
    for at in [given[0]] if given else places[:1]:
        word = (given[1] if given else line.words[at]).strip("\"'")
        drive(session, line, at, word, output[1] if output else None)


def drive(session: Session, line: Line, at: int, word: str, output: str | None) -> None:
    """A file of Google Drive by id or link."""
    mark = "" if line.exact(at) else DERIVED
    if has_hole(word):
        line.add("download", at, mark + word, host="drive.google.com")
        return
    found = drive_id(word) if is_url(word) else word
    if is_url(word) and found is None:
        line.add("download", at, mark + word, host=host_of(word))
    else:
        line.add("download", at, f"gdrive:{found}{mark}", host="drive.google.com")
    if output:
        session.world.fetched[session.world.key(output.strip("\"'"), line.cwd)] = f"gdrive:{found}"


def gsutil(session: Session, line: Line) -> None:
    """`gsutil cp gs://..`, and copies the other way."""
    places = line.positional(("-o", "-h"))
    if not places or line.words[places[0]] not in ("cp", "rsync", "mv", "cat", "ls", "du", "stat"):
        return
    _cloud(
        session,
        line,
        places[1:],
        "gs://",
        "google-cloud-storage",
        reads=line.words[places[0]] in ("cat", "ls", "du", "stat"),
    )


def _cloud(session: Session, line: Line, places: list[int], scheme: str, service: str, *, reads: bool = False) -> None:
    if not places:
        return
    last = places[-1]
    if len(places) > 1 and line.words[last].startswith(scheme) and not reads:
        line.fixed("send", service)
        places = places[:-1]
    for at in places:
        if line.words[at].startswith(scheme):
            mark = "" if line.exact(at) else DERIVED
            line.add("download", at, mark + line.words[at].rstrip("/"), host=host_of(line.words[at]))
            target = line.words[last] if last != at else "."
            name = posixpath.basename(line.words[at].rstrip("/*"))
            session.world.fetched[session.world.key(posixpath.join(target, name), line.cwd)] = line.words[at]


def gcloud(session: Session, line: Line) -> None:
    """`gcloud auth login`, `gcloud storage cp`."""
    words = line.words
    if words[1:2] == ["auth"] and len(words) > 2 and "login" in words[2:4]:
        line.fixed("credential", "google-account")
    elif words[1:2] == ["storage"]:
        _cloud(session, line, line.positional(start=3), "gs://", "google-cloud-storage")
    elif words[1:3] == ["ai", "models"] or "deploy" in words:
        line.fixed("send", "google-cloud")


def aws(session: Session, line: Line) -> None:
    """`aws s3 cp s3://..`."""
    if line.words[1:2] == ["s3"] and len(line.words) > 3 and line.words[2] in ("cp", "sync", "mv", "ls"):
        _cloud(session, line, line.positional(("--region", "--endpoint-url", "--profile", "--exclude", "--include"), 3),
               "s3://", "aws", reads=line.words[2] == "ls")  # fmt: skip
    elif line.words[1:2] == ["configure"]:
        line.fixed("credential", "aws")


def rclone(session: Session, line: Line) -> None:
    """`rclone copy REMOTE: DIR`."""
    places = line.positional(("--config", "--transfers", "--include", "--exclude"))
    if len(places) > 2 and line.words[places[0]] in ("copy", "sync", "move", "copyto", "copyurl"):
        if is_url(line.words[places[1]]):
            fetched(session, line, places[1], line.words[places[1]], None)
        elif re.match(r"[\w-]{2,}:", line.words[places[2]]):
            line.add("send", places[2])
        elif re.match(r"[\w-]{2,}:", line.words[places[1]]):
            line.add("download", places[1])


def video(session: Session, line: Line) -> None:
    """`yt-dlp URL`."""
    places = line.positional(("-f", "--format", "-o", "--output", "--cookies", "--audio-format", "--external-downloader",
                              "--external-downloader-args", "--download-sections", "-a", "--sub-lang", "--postprocessor-args",
                              "--audio-quality", "--merge-output-format", "-P", "--recode-video"))  # fmt: skip
    output = line.short("o", "--output")
    for at in places:
        word = line.words[at]
        if is_url(word) or has_hole(word):
            mark = "" if line.exact(at) else DERIVED
            line.add("download", at, mark + word, host=host_of(word))
            if output:
                session.world.make(output[1], line.cwd)


def scp(session: Session, line: Line) -> None:
    """`scp`, `rsync` to or from another machine."""
    places = line.positional(("-i", "-P", "-e", "-o", "--exclude", "-F"))
    for at in places:
        match = re.match(r"(?:[\w.-]+@)([\w.-]+):", line.words[at])
        if match:
            line.add("send" if at == places[-1] else "download", at, match[1])
