"""Notebooks that the tests serve."""

from __future__ import annotations

import json
from pathlib import Path

FORM = """#@title Settings
#@markdown How often it swings
frequency = 3 #@param {type:"slider", min:1, max:10, step:1}
name = 'a wave' #@param {type:"string"}
colour = 'blue' #@param ['blue', 'green', 'red']
style = 'solid' #@param ['solid', 'dashed'] {allow-input: true}
grid = True #@param {type:"boolean"}
day = '2026-01-31' #@param {type:"date"}
count = 100 #@param {type:"integer"}
ratio = 0.5 #@param {type:"number"}
points = [1, 2] #@param {type:"raw"}"""
SHOW = "print([frequency, name, colour, style, grid, day, count, ratio, points])"
RICH = '''from IPython.display import HTML, SVG, Markdown, display
display(HTML("""<b id=mine>bold</b><script>let said;
try { said = parent.document.title } catch (e) { said = e.name }
document.body.append(" caged: " + said);
fetch("/runs").catch(e => document.body.append(" no way out: " + e.name))</script>"""))
display(SVG("""<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><script>alert(1)</script>
<rect width="40" height="20"/></svg>"""))
display(Markdown('**strong** <img src=x onerror=alert(1)> ![p](http://track.example/x.png) [go](javascript:alert(1))'))
print('\\x1b[31mred\\x1b[0m <script>alert(1)</script>')'''
ASKS = """from getpass import getpass
name = input('Your <b>name</b>? ')
print('then', flush=True)
word = getpass('The word: ')
print(name, 'knows a word of', len(word))"""
CLICKS = '''from google.colab import output
from IPython.display import HTML, JSON, display

def concat(words, upper=False):
    print("called with", words)
    text = " ".join(words)
    return JSON({"text": text.upper() if upper else text})

def wrong():
    raise ValueError("no such thing")

output.register_callback("notebook.concat", concat)
output.register_callback("notebook.wrong", wrong)
display(HTML("""<button>Join</button><i>Break</i><p>-</p><script>
const say = (words) => { document.querySelector("p").textContent = words };
document.querySelector("button").onclick = async () => {
  const given = await google.colab.kernel.invokeFunction("notebook.concat", [["a", "b' é"]], {upper: true});
  say(given.data["application/json"].text);
};
document.querySelector("i").onclick = () => google.colab.kernel.invokeFunction("notebook.wrong").catch((e) => say(e.message));
</script>"""))'''
KEEP = "import os\nos.makedirs('outputs')\nopen('outputs/answer.txt', 'w').write(name)"


def write(folder: Path, name: str, *cells: str, words: str = "# Draw a wave\nPick a *shape*.") -> Path:
    """A notebook file with these code cells after a cell of words."""
    made: list[dict[str, object]] = [{"cell_type": "markdown", "source": words, "metadata": {}}]
    made += [{"cell_type": "code", "source": c, "metadata": {}, "outputs": [], "execution_count": None} for c in cells]
    path = folder / name
    path.write_text(json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    return path


# A server in a thread, with standard pieces alone: what it is asked is given back, and it tries what it may not.
WEB_SERVER = '''import base64, hashlib, json, struct, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = """<!doctype html><title>theirs</title><h1>A page of the notebook</h1><script>
const say = (what, words) => { const p = document.createElement("p"); p.id = what; p.textContent = words; document.body.append(p); };
const page = "http://127.0.0.1:" + location.port;
say("opener", "opener " + (window.opener === null));
say("cookies", "cookies [" + document.cookie + "]");
say("referrer", "referrer [" + document.referrer + "]");
fetch(page + "/runs", {credentials: "include"}).then(r => r.text()).then(t => say("read", "read " + t), e => say("read", "refused " + e.name));
fetch(page + "/runs", {method: "POST", mode: "no-cors", credentials: "include", headers: {"Content-Type": "text/plain"}, body: "{}"}).then(r => say("post", "sent " + r.type), e => say("post", "refused " + e.name));
const frame = document.createElement("iframe"); frame.src = page; document.body.append(frame);
frame.onload = () => { let words; try { words = "framed " + frame.contentDocument.title } catch (e) { words = "refused " + e.name } say("framed", words) };
document.cookie = "allmend_visitor=planted; domain=localhost; path=/";
document.cookie = "allmend_server=planted; path=/";
say("planted", "cookies now [" + document.cookie + "]");
const socket = new WebSocket("ws://" + location.host + "/ws");
socket.onopen = () => socket.send("hello"); socket.onmessage = (m) => say("socket", "socket " + m.data);
new WebSocket("ws://127.0.0.1:" + location.port + "/ws").onerror = () => say("other", "no other socket");
</script>"""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words): pass

    def do_GET(self):
        if self.headers.get("Upgrade") == "websocket":
            return self.socket()
        if self.path == "/slow":
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"first\\n")
            self.wfile.flush()
            time.sleep(600)
        self.answer(PAGE.encode(), "text/html")

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        said = {"length": len(body), "path": self.path, "cookie": self.headers.get("Cookie"), "host": self.headers["Host"]}
        self.answer(json.dumps(said).encode(), "application/json")

    def answer(self, body, kind):
        self.send_response(200)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), ("Set-Cookie", "mine=1; Domain=localhost; Path=/"), ("Access-Control-Allow-Origin", "*"), ("NEL", "evil"), ("Content-Security-Policy-Report-Only", "report-uri http://evil.example"), ("Link", "<http://evil.example>; rel=preconnect")):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def socket(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_response(101)
        for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)):
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        while True:
            head = self.rfile.read(2)
            if len(head) < 2 or head[0] & 15 == 8:
                return
            mask = self.rfile.read(4)
            data = bytes(b ^ mask[n % 4] for n, b in enumerate(self.rfile.read(head[1] & 127)))
            back = data + b" back" if head[0] & 15 == 1 else data[::-1]
            self.wfile.write(bytes([head[0], len(back)]) + back)
            self.wfile.flush()


threading.Thread(target=ThreadingHTTPServer(("0.0.0.0", 7860), Handler).serve_forever, daemon=True).start()'''
WEB_ADDRESS = """from google.colab import output
from google.colab.output import eval_js
output.serve_kernel_port_as_window(7860)
print(eval_js("google.colab.kernel.proxyPort(7860)"))"""
