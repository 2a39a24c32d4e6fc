"""The package index of this machine's owner reaches pip inside, whatever its address; its passwords do not."""

from __future__ import annotations

import io
import tarfile
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from boxed_jobs import CASE_IDS, CASES, Jobs

from allmend.box import owner, sets
from allmend.box.environment import Environment

each_case = pytest.mark.parametrize(("level", "who"), CASES, ids=CASE_IDS)


def wheel(folder: Path, name: str = "tinypack", version: str = "1.0") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


def test_settings_are_read_and_passwords_left_out(tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "simple").mkdir()
    (tmp_path / "ca.pem").write_text("x")
    found = owner.read(
        {
            "HOME": str(tmp_path),
            "PIP_INDEX_URL": "https://user:hunter2@private.example/simple",
            "PIP_EXTRA_INDEX_URL": f"http://10.0.0.7:8080/simple file://{tmp_path}/simple",
            "PIP_FIND_LINKS": f"{tmp_path}/links",
            "PIP_CERT": f"{tmp_path}/ca.pem",
        },
        apt=tmp_path,
    )
    everything = found.pip_conf() + str(found.variables("/run", "/env")) + str(found.grants)
    assert "hunter2" not in everything and "private.example" not in everything
    assert "private.example" in found.notes[0] and "hunter2" not in found.notes[0]
    assert found.hosts == ["10.0.0.7:8080"]
    assert set(found.folders) == {f"{tmp_path}/simple", f"{tmp_path}/links", f"{tmp_path}/ca.pem"}
    assert found.variables("/run", "/env")["UV_FIND_LINKS"] == f"{tmp_path}/links"


def test_apt_sources_with_passwords_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(
        "deb http://mirror.example/debian stable main\n# deb http://off.example x\ndeb https://a:hunter2@closed.example/d s m\n"
    )
    found = owner.read({}, apt=tmp_path)
    assert "mirror.example:80" in found.hosts
    assert not any("off.example" in host or "closed.example" in host for host in found.hosts)


@each_case
def test_pip_and_uv_install_from_the_owners_folder(jobs: Jobs, level: str, who: str) -> None:
    links = jobs.base / f"links-{level}-{who}"
    wheel(links)
    variables = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(links)}
    cells = ["%pip install -q tinypack", "import tinypack; print(tinypack.VERSION, tinypack.__file__)"]
    ran = jobs.run(cells, level=level, who=who, operator=True, environment=variables)
    assert "1.0" in ran.text(1) and "/lib/python" in ran.text(1), ran.text(0)
    assert ran.receipt.ended == "finished"


@each_case
def test_the_owners_index_may_have_a_private_address(jobs: Jobs, level: str, who: str) -> None:
    pages = jobs.base / f"index-{level}-{who}"
    wheel(pages / "simple" / "tinypack")
    handler = partial(_Quiet, directory=str(pages))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    try:
        address = f"http://index.example:{port}/simple"
        cells = [
            "!pip install -q tinypack 2>&1 | tail -3",
            "import tinypack; print(tinypack.VERSION)",
            f"!curl -sS http://index.example:{port + 1}/ | head -1",
        ]
        variables = {"PIP_INDEX_URL": address, "PIP_TRUSTED_HOST": "index.example"}
        names = {"index.example": "127.0.0.1"}
        ran = jobs.run(cells, level=level, who=who, operator=True, environment=variables, names=names, web_port=port)
    finally:
        server.shutdown()
        server.server_close()
    assert "1.0" in ran.text(1), ran.text(0)
    host = next(host for host in ran.receipt.hosts if host.host == "index.example")
    assert host.operator and host.port == port
    assert f"host index.example:{port}" in ran.receipt.operator_grants
    assert "not permitted" in ran.text(2)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_what_a_notebook_installs_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    links = wheel(tmp_path / "links").parent
    wheel(links, "otherpack")
    settings = owner.Operator(settings={"no-index": ["true"], "find-links": [str(links)]})
    chosen = _environment(tmp_path)
    asked = ["tinypack", "otherpack==1.0", "git+https://x.example/y"]
    first = sets.requirement_set(asked, chosen, settings)
    site = Path(first.folders[0])
    assert (site / "tinypack.py").exists() and (site / "otherpack.py").exists() and first.left == ()
    made = site.stat().st_mtime_ns
    assert sets.requirement_set(["otherpack==1.0", "tinypack"], chosen, settings) == first
    assert site.stat().st_mtime_ns == made
    held = Environment("t", chosen.version, chosen.executable, (), first.folders, pip=True)
    assert sets.requirement_set(["tinypack"], held, settings) == sets.RequirementSet()


def test_a_package_without_a_wheel_is_named_and_the_others_are_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    links = wheel(tmp_path / "links").parent
    with tarfile.open(links / "sourcepack-1.0.tar.gz", "w:gz") as archive:
        for name, text in (("PKG-INFO", "Metadata-Version: 2.1\nName: sourcepack\nVersion: 1.0\n"), ("setup.py", "")):
            member = tarfile.TarInfo(f"sourcepack-1.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    settings = owner.Operator(settings={"no-index": ["true"], "find-links": [str(links)]})
    found = sets.requirement_set(["tinypack", "sourcepack", "nowhere-to-be-found"], _environment(tmp_path), settings)
    assert (Path(found.folders[0]) / "tinypack.py").exists()
    assert not (Path(found.folders[0]) / "sourcepack.py").exists()
    assert [text.split()[0] for text in found.left] == ["nowhere-to-be-found", "sourcepack"]
    assert "wheel" in found.left[1]
    assert (
        sets.requirement_set(["tinypack", "sourcepack", "nowhere-to-be-found"], _environment(tmp_path), settings)
        == found
    )


def _environment(folder: Path) -> Environment:
    import os
    import sys

    (folder / "site").mkdir(exist_ok=True)
    version = ".".join(map(str, sys.version_info[:3]))
    return Environment("t", version, os.path.realpath(sys.executable), (), (str(folder / "site"),), pip=True)
