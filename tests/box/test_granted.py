"""What was granted works, as root and as an ordinary user, and is in the receipt."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from boxed_jobs import CASE_IDS, CASES, WHO, Jobs

each_case = pytest.mark.parametrize(("level", "who"), CASES, ids=CASE_IDS)
each_user = pytest.mark.parametrize("who", WHO)
HOSTS = '[network]\nhosts = ["allowed.example", "other.example", "*.wild.example"]\n'


@each_case
def test_a_granted_host_is_reached_and_its_bytes_counted(jobs: Jobs, level: str, who: str) -> None:
    cell = "import urllib.request\nprint(urllib.request.urlopen('http://allowed.example/path?q=1', timeout=60).read())"
    ran = jobs.run([cell, "!curl -sS http://allowed.example/curl"], level=level, who=who, permissions=HOSTS)
    assert "CONTENT" in ran.text(0) and "CONTENT" in ran.text(1)
    host = next(host for host in ran.receipt.hosts if host.host == "allowed.example")
    assert host.connections == 2 and host.bytes_out > 50 and host.bytes_in > 50 and not host.operator
    assert any("GET /path?q=1 HTTP/1.1\r\nHost: allowed.example\r\n" in text for text in ran.world["web"])
    assert ran.receipt.ended == "finished"
    assert ran.receipt.enforcement.level == level


@each_user
def test_clients_that_know_no_proxy_go_out_transparently(jobs: Jobs, who: str) -> None:
    cells = [
        "import http.client\nc = http.client.HTTPConnection('allowed.example', timeout=60); c.request('GET', '/plain'); print(c.getresponse().read())",
        "import socket, ssl\ns = socket.create_connection(('allowed.example', 443), 5); s.settimeout(3)\n"
        "try: ssl.create_default_context().wrap_socket(s, server_hostname='allowed.example')\nexcept (OSError, ssl.SSLError) as e: print(type(e).__name__)",
        "s = socket.create_connection(('allowed.example', 443), 5); s.settimeout(3)\n"
        "try: ssl.create_default_context().wrap_socket(s, server_hostname='other.example')\nexcept (OSError, ssl.SSLError) as e: print(type(e).__name__)",
    ]
    ran = jobs.run(cells, who=who, permissions=HOSTS)
    assert "CONTENT" in ran.text(0)
    hellos = [text for text in ran.world["web"] if text.startswith("\x16\x03")]
    assert len(hellos) == 1 and "allowed.example" in hellos[0]
    assert "TLS asked for 'other.example'" in str(ran.events("host", "allowed.example:443"))


@each_case
def test_a_secret_is_handed_over_and_confines(jobs: Jobs, level: str, who: str) -> None:
    permissions = HOSTS + '[secrets.GRANTED]\nhosts = ["allowed.example"]\n[secrets.ABSENT]\nhosts = ["*"]\n'
    get = "print(urllib.request.urlopen('http://{}/x', timeout=60).read())"
    cells = [
        "import urllib.request\n" + get.format("other.example"),
        "from google.colab import userdata\nv = userdata.get('GRANTED')\nprint(len(v), v[:7])",
        get.format("other.example"),
        get.format("allowed.example"),
        "try: userdata.get('ABSENT')\nexcept userdata.SecretNotFoundError as e: print('absent', e)",
    ]
    ran = jobs.run(cells, level=level, who=who, permissions=permissions)
    assert "CONTENT" in ran.text(0)
    assert "16 granted" in ran.text(1)
    assert "only its hosts can be reached" in ran.text(2) and "GRANTED" in ran.text(2)
    assert "CONTENT" in ran.text(3)
    assert "absent" in ran.text(4)
    assert ran.receipt.secrets_used == ["GRANTED"]
    assert "granted-value-11" not in (ran.folder / "out" / "receipt.json").read_text() + ran.html


@each_case
def test_a_connection_opened_before_a_secret_carries_nothing_after_it(jobs: Jobs, level: str, who: str) -> None:
    permissions = HOSTS + '[secrets.GRANTED]\nhosts = ["allowed.example"]\n'
    cells = [
        "import os, socket\nfrom google.colab import userdata\n"
        "proxy = os.environ['HTTP_PROXY'].split('//')[1].split(':')\n"
        "def begin(host):\n    s = socket.create_connection((proxy[0], int(proxy[1])), 10)\n"
        "    s.sendall(f'POST http://{host}/x HTTP/1.1\\r\\nHost: {host}\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n5\\r\\nEARLY\\r\\n'.encode())\n"
        "    s.settimeout(60); s.recv(1)  # Its beginning has arrived.\n"
        "    return s\nother, allowed = begin('other.example'), begin('allowed.example')\nimport time; time.sleep(0.5)",
        "v = userdata.get('GRANTED')\nfor s in (other, allowed):\n    try:\n        s.sendall(b'4\\r\\nLATE\\r\\n0\\r\\n\\r\\n'); s.settimeout(3)\n"
        "        while s.recv(4096): pass\n    except OSError: pass\nprint('sent')",
    ]
    ran = jobs.run(cells, level=level, who=who, permissions=permissions)
    other = [text for text in ran.world["web"] if "Host: other.example" in text]
    allowed = [text for text in ran.world["web"] if "Host: allowed.example" in text]
    assert len(other) == len(allowed) == 1 and "EARLY" in other[0] and "EARLY" in allowed[0]
    assert "LATE" in allowed[0] and "LATE" not in other[0]
    assert "was open when a secret" in str(ran.events("host", "other.example", 1))


@each_case
def test_the_message_names_the_line_to_add(jobs: Jobs, level: str, who: str) -> None:
    ran = jobs.run(
        ["import urllib.request\nurllib.request.urlopen('http://new.example/', timeout=60)"], level=level, who=who
    )
    assert ran.receipt.cells[0].status == "error"
    assert 'Add "new.example" to hosts under [network]' in ran.text(0)
    assert "--allow host:new.example" in ran.text(0)


@each_case
def test_declared_files_are_read_and_outputs_come_out(jobs: Jobs, level: str, who: str) -> None:
    permissions = '[files]\nread = ["data", "one.csv"]\nwrite = "taken"\noutputs = ["*.png"]\n'
    cells = [
        "print(open('data/a/b.txt').read(), open('one.csv').read())\ntry: open('data/a/b.txt', 'w')\nexcept OSError as e: print(e)",
        "import os\nos.makedirs('outputs/deep', exist_ok=True); open('outputs/deep/r.txt', 'w').write('result'); open('p.png', 'wb').write(b'png')\nopen('left.txt', 'w').write('no')",
        "from google.colab import files\nopen('named.csv', 'w').write('x'); files.download('named.csv')\nprint(files.upload())",
    ]
    given = {"data/a/b.txt": b"inner", "one.csv": b"1,2", "up.txt": b"uploaded"}
    ran = jobs.run(cells, level=level, who=who, permissions=permissions, files=given, uploads=["up.txt"])
    assert "inner 1,2" in ran.text(0) and "Errno" in ran.text(0)
    assert "uploaded" in ran.text(2)
    taken = ran.folder / "taken"
    found = {str(path.relative_to(taken)) for path in taken.rglob("*") if path.is_file()}
    assert found == {"outputs/deep/r.txt", "p.png", "named.csv"}
    by_path = {file.path: file for file in ran.receipt.files}
    assert by_path["p.png"].cell == 1 and by_path["p.png"].exported
    assert not by_path["left.txt"].exported
    assert (ran.folder / "data/a/b.txt").read_bytes() == b"inner"


@each_case
def test_files_only_their_owner_may_read_can_still_be_granted(jobs: Jobs, level: str, who: str) -> None:
    folder = jobs.prepare(
        ["print(open('secret.txt').read())"],
        level=level,
        who=who,
        permissions='[files]\nread = ["secret.txt"]\n',
        files={"secret.txt": b"mine"},
    )
    (folder / "secret.txt").chmod(0o600)
    command, environment = jobs.command(folder, level, who)
    subprocess.run(command, env=environment, cwd="/", check=True, timeout=60)
    assert "mine" in jobs.result(folder).text(0)


@each_case
@pytest.mark.parametrize("write", [False, True])
def test_drive_shows_the_granted_folder(jobs: Jobs, level: str, who: str, write: bool) -> None:
    cells = [
        "from google.colab import drive\ndrive.mount('/content/drive' if __import__('os').path.isdir('/content') else 'drive')\n"
        "root = '/content/drive' if __import__('os').path.isdir('/content') else 'drive'\nprint(open(root + '/MyDrive/notes.txt').read())",
        "import os\ntry:\n    open(root + '/MyDrive/new.txt', 'w').write('new'); open(root + '/MyDrive/.bashrc', 'w').write('later'); print('written')\nexcept OSError as e: print(e)",
    ]
    permissions = f'[drive]\nfolder = "mydrive"\nwrite = {str(write).lower()}\n'
    ran = jobs.run(cells, level=level, who=who, permissions=permissions, files={"mydrive/notes.txt": b"my notes"})
    assert "my notes" in ran.text(0)
    names = {path.name for path in (ran.folder / "mydrive").iterdir()}
    assert names == ({"notes.txt", "new.txt"} if write else {"notes.txt"})
    assert ("written" in ran.text(1)) == write


@each_user
def test_a_published_port_is_shown_outside(jobs: Jobs, who: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cells = [
        "import http.server, threading\nserved = threading.Event()\nclass H(http.server.BaseHTTPRequestHandler):\n    def do_GET(self):\n        self.send_response(200); self.end_headers(); self.wfile.write(b'from inside'); served.set()\n"
        f"    def log_message(self, *a): pass\ns = http.server.HTTPServer(('127.0.0.1', {port}), H)\nthreading.Thread(target=s.serve_forever, daemon=True).start()",
        "import time\nserved.wait(120); time.sleep(0.5)",
    ]
    folder = jobs.prepare(cells, who=who, permissions=f'[network]\npublish = [{port}]\n[limits]\ncell_time = "150s"\n')
    command, environment = jobs.command(folder, "A", who)
    process = subprocess.Popen(command, env=environment, cwd="/")
    try:
        text = b""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        until = time.monotonic() + 120
        while not text and time.monotonic() < until:
            time.sleep(0.1)
            try:
                text = opener.open(f"http://127.0.0.1:{port}/", timeout=60).read()
            except (OSError, http.client.HTTPException):
                continue
        assert text == b"from inside"
    finally:
        process.wait(timeout=180)
    assert jobs.result(folder).events("port", str(port))


@each_user
def test_tracing_sees_what_the_interpreter_does_not(jobs: Jobs, who: str) -> None:
    cell = "import ctypes\nlibc = ctypes.CDLL(None)\nprint(libc.open(b'/etc/shadow', 0))"
    assert not jobs.run([cell], who=who).events("read", "/etc/shadow")
    seen = jobs.run([cell], who=who, trace=True).events("read", "/etc/shadow")
    assert seen and seen[0].source == "kernel" and seen[0].verdict == "denied"


@each_case
def test_ordinary_cells_behave_as_outside(jobs: Jobs, level: str, who: str) -> None:
    cells = [
        "%matplotlib inline\nx = 1",
        "!echo $((1 + 2)) | cat; pwd",
        "%%bash\necho from bash",
        "import subprocess\nprint(subprocess.run(['ls'], capture_output=True).returncode)",
        "import tempfile\nwith tempfile.NamedTemporaryFile() as f: f.write(b'x')\nprint('temporary')",
        "import asyncio\nawait asyncio.sleep(0.01)\nprint('awaited')",
        "import concurrent.futures as c\nwith c.ThreadPoolExecutor(4) as p: print(sum(p.map(lambda i: i * i, range(100))))",
        "import os; open('a.txt', 'w').write('x'); os.rename('a.txt', 'b.txt'); print(os.listdir('.'))",
        "%%writefile m.py\nvalue = 42",
        "import m; print(m.value)",
        "from IPython.display import display; display({'a': 1}); 7 * 6",
        "import socket, threading\na, b = socket.socketpair(); a.send(b'hi'); print(b.recv(2))",
        "s = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(s.getsockname()); print('own server')",
    ]
    ran = jobs.run([c for c in cells if "matplotlib" not in c], level=level, who=who)
    assert [cell.status for cell in ran.receipt.cells] == ["ok"] * (len(cells) - 1), [
        cell.error for cell in ran.receipt.cells
    ]
    assert "3" in ran.text(0) and "from bash" in ran.text(1) and "b.txt" in ran.text(6)
    assert "own server" in ran.text(11)
    assert ran.receipt.ended == "finished"


def test_the_names_inside_say_nothing_about_this_machine(jobs: Jobs) -> None:
    ran = jobs.run(
        [
            "import os, socket\nprint(socket.gethostname(), os.getcwd(), os.path.expanduser('~'), os.environ.get('PATH'))\nprint(open('/etc/passwd').read())"
        ]
    )
    assert "box /content /home/user" in ran.text(0)
    assert str(Path.home()) not in ran.text(0).replace("/root", "", 0) or os.geteuid() == 0
    assert "nobody" in ran.text(0) and "daemon" not in ran.text(0)


@each_case
def test_an_address_across_two_pages_is_read_whole(jobs: Jobs, level: str, who: str) -> None:
    cell = (
        "import ctypes, mmap, os, socket, struct\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "pages = mmap.mmap(-1, 8192)\nbase = ctypes.addressof(ctypes.c_char.from_buffer(pages))\n"
        "path = os.path.abspath('s').encode()\naddress = struct.pack('=H', 1) + path + b'\\0'\n"
        "for cut in (1, 2, 5, len(address) - 1):\n    at = 4096 - cut\n    pages[at:at + len(address)] = address\n"
        "    s = socket.socket(socket.AF_UNIX)\n    r = libc.bind(s.fileno(), ctypes.c_void_p(base + at), len(address))\n"
        "    s.listen()\n    c = socket.socket(socket.AF_UNIX)\n"
        "    print(r, libc.connect(c.fileno(), ctypes.c_void_p(base + at), len(address)))\n    os.unlink('s')"
    )
    ran = jobs.run([cell], level=level, who=who)
    assert ran.text(0).split() == ["0"] * 8, ran.text(0)
