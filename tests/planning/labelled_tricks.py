"""Synthetic notebooks that hide what they do behind ordinary Python and shell, labelled like `labelled_set.py`."""

from __future__ import annotations

from labelled_case import COLAB_GPU, Case

TRICKS = [
    Case(
        "subprocess under other names",
        """
from subprocess import run as r, check_call as cc, Popen
r(["pip", "install", "attrs"])
cc("git clone https://github.com/maker/one", shell=True)
----
import subprocess as sp
cmd = ["wget", "-q", "https://host.example/a.bin", "-O", "a.bin"]
sp.Popen(cmd)
----
import importlib
m = importlib.import_module("subprocess")
getattr(m, "check_output")("curl -O https://host.example/b.bin".split())
----
import os as operating
operating.system("apt-get install -y " + " ".join(["zip", "tree"]))
----
run = __import__("os").popen
run("gdown 1AbCdEfGhIjKlMnOpQrStUvWx")
----
import asyncio
async def go():
    await asyncio.create_subprocess_shell("wget https://host.example/c.bin")
await go()
""",
        """
0 install pip:attrs
0 process pip
0 clone https://github.com/maker/one
0 process git
1 download https://host.example/a.bin
1 process wget
2 download https://host.example/b.bin
2 process curl
3 install apt:zip
3 install apt:tree
3 process apt-get
4 download gdrive:1AbCdEfGhIjKlMnOpQrStUvWx
4 process gdown
5 download https://host.example/c.bin
5 process wget
""",
    ),
    Case(
        "wrappers around wrappers",
        """
import subprocess, requests, os

def sh(*parts, **kw):
    return subprocess.run(" ".join(parts), shell=True, **kw)

def fetch(name, base="https://host.example/w", suffix=".bin"):
    url = f"{base}/{name}{suffix}"
    with open(name, "wb") as out:
        out.write(requests.get(url).content)
    return name
----
sh("wget", "https://host.example/one.txt")
fetch("two"); fetch("three", suffix=".pt")
----
list(map(fetch, ["four", "five"]))
----
get = lambda n: fetch(n, base="https://other.example")
get("six")
""",
        """
0 process wget
0 download https://host.example/one.txt
0 download https://host.example/w/two.bin
0 download https://host.example/w/three.pt
0 download https://host.example/w/four.bin
0 download https://host.example/w/five.bin
0 download https://other.example/six.bin
""",
    ),
    Case(
        "loops over literals",
        """
models = {"small": "org/net-small", "large": "org/net-large"}
from transformers import AutoModel
for key, name in models.items():
    AutoModel.from_pretrained(name)
----
for pkg in ["rich", "typer==0.9.0"]:
    !pip install {pkg}
----
urls = [f"https://host.example/part-{i:02d}.bin" for i in range(3)]
import urllib.request
for u in urls:
    urllib.request.urlretrieve(u, u.split("/")[-1])
----
for a, b in zip(["x", "y"], [1, 2]):
    !wget https://host.example/{a}{b}.txt
----
%%bash
for n in red green; do
  curl -sLO "https://host.example/$n.png"
done
""",
        """
0 model hf:org/net-small
0 model hf:org/net-large
1 install pip:rich
1 install pip:typer
2 download https://host.example/part-00.bin
2 download https://host.example/part-01.bin
2 download https://host.example/part-02.bin
3 download https://host.example/x1.txt
3 download https://host.example/y2.txt
4 download https://host.example/red.png
4 download https://host.example/green.png
""",
    ),
    Case(
        "choices of a form",
        """
#form
Model = "base" #@param ["base", "anime", "photo"]
Version = "v2" #@param ["v1", "v2"]
use_extra = False #@param {type:"boolean"}
----
if Model == "base":
    url = "https://host.example/base.ckpt"
elif Model == "anime":
    url = "https://host.example/anime.ckpt"
else:
    url = "https://host.example/photo.ckpt"
!wget -c {url} -O model.ckpt
----
!wget https://host.example/{Version}/config.yaml
----
if use_extra:
    !pip install extra-package
----
from huggingface_hub import hf_hub_download
hf_hub_download(repo_id=f"org/net-{Version}", filename="w.safetensors")
""",
        """
0 hidden_code cell
1 download https://host.example/base.ckpt
1 download https://host.example/anime.ckpt
1 download https://host.example/photo.ckpt
2 download https://host.example/v1/config.yaml
2 download https://host.example/v2/config.yaml
3 install pip:extra-package
4 model hf:org/net-v1
4 model hf:org/net-v2
""",
    ),
    Case(
        "a dropdown picks from a dictionary",
        """
choice = "fast" #@param ["fast", "good"] {allow-input: true}
repos = {"fast": "org/fast-net", "good": "org/good-net"}
----
from diffusers import DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained(repos[choice]).to("cuda")
""",
        """
1 model hf:org/fast-net
1 model hf:org/good-net
1 hardware gpu
""",
    ),
    Case(
        "directories across cells",
        """
import os
from pathlib import Path
ROOT = Path("/content") / "work"
ROOT.mkdir(exist_ok=True)
os.chdir(ROOT)
----
!git clone --depth 1 https://github.com/maker/tool.git src
----
%cd src
----
!python setup.py develop
!cd scripts && bash run.sh && cd ..
----
%cd ..
!python src/demo.py
""",
        """
1 clone https://github.com/maker/tool
3 foreign_code /content/work/src/setup.py
3 foreign_code /content/work/src/scripts/run.sh
4 foreign_code /content/work/src/demo.py
""",
    ),
    Case(
        "environment and shell variables",
        """
import os
os.environ["BASE"] = "https://host.example"
%env NAME=weights
----
!wget $BASE/$NAME.bin
----
%%bash
export DEST=/tmp/x
FILE="${NAME:-none}.json"
curl -L "$BASE/$FILE" -o "$DEST/$FILE"
----
!echo $HF_TOKEN && wget "https://host.example/${UNKNOWN_PART}.bin"
""",
        """
1 download https://host.example/weights.bin
2 download https://host.example/weights.json
3 download ?https://host.example/${UNKNOWN_PART}.bin
""",
    ),
    Case(
        "written files that run",
        """
%%writefile train.py
import torch
from datasets import load_dataset
ds = load_dataset("org/rows")
model = torch.load("start.pt")
----
!python train.py --epochs 3
----
with open("go.sh", "w") as f:
    f.write("pip install fire\\nwget https://host.example/d.zip\\n")
!bash go.sh
----
!cat > up.py <<'EOF'
import requests
requests.post("https://collect.example/x", json={})
EOF
!python3 up.py
----
%%writefile notes.py
import requests
requests.get("https://never.example/run")
----
%%bash
cat <<EOF | python
import urllib.request
urllib.request.urlopen("https://host.example/e.txt")
EOF
""",
        """
0 dataset hf:org/rows
0 unpickle start.pt
2 install pip:fire
2 download https://host.example/d.zip
3 send collect.example
5 download https://host.example/e.txt
""",
    ),
    Case(
        "pieces of an address",
        """
HOST = "https://host.example"
PATHS = ("a", "b")
one = HOST + "/" + "/".join(PATHS)
two = "%s/%s.json" % (HOST, "c")
three = "{}/{name}.csv".format(HOST, name="d")
import posixpath, urllib.parse
four = posixpath.join(HOST, "e", "f.txt")
five = urllib.parse.urljoin(HOST + "/", "g.txt")
six = HOST.replace("host", "mirror") + "/h"
----
import requests, pandas as pd
requests.get(one); requests.get(two)
pd.read_csv(three)
requests.get(four); requests.get(five); requests.get(six)
----
s = requests.Session()
s.headers.update({"A": "b"})
s.get(f"{HOST}/i")
s.post(url=f"{HOST}/j", data={})
----
resp = requests.get(HOST + "/list").json()
for item in resp:
    requests.get(item["url"])
""",
        """
1 download https://host.example/a/b
1 download https://host.example/c.json
1 download https://host.example/d.csv
1 download https://host.example/e/f.txt
1 download https://host.example/g.txt
1 download https://mirror.example/h
2 download https://host.example/i
2 send host.example
3 download https://host.example/list
3 download ?item["url"]
""",
    ),
    Case(
        "classes that fetch",
        """
import requests

class Hub:
    base = "https://api.example/v1"
    def __init__(self, token=None):
        self.session = requests.Session()
        self.token = token
    def get(self, path):
        return self.session.get(f"{self.base}/{path}")
    def put(self, path, body):
        return self.session.put(self.base + "/" + path, json=body)

hub = Hub()
hub.get("items")
hub.put("items/1", {})
""",
        """
0 download https://api.example/v1/items
0 send api.example
""",
    ),
    Case(
        "a fetched module is imported",
        """
!wget -q https://raw.host.example/tools/toolbox.py
import toolbox as tb
tb.run()
----
import urllib.request
urllib.request.urlretrieve("https://host.example/more.py", "more.py")
from more import thing
----
import requests
exec(requests.get("https://host.example/boot.py").text)
----
!curl -s https://host.example/set.sh | sudo bash -s -- --yes
----
code = requests.get("https://host.example/late.py").text
with open("late.py", "w") as f:
    f.write(code)
%run late.py
""",
        """
0 download https://raw.host.example/tools/toolbox.py
0 foreign_code toolbox
1 download https://host.example/more.py
1 foreign_code more
2 download https://host.example/boot.py
2 dynamic_code ?requests.get("https://host.example/boot.py").text
2 foreign_code https://host.example/boot.py
3 download https://host.example/set.sh
3 foreign_code https://host.example/set.sh
4 download https://host.example/late.py
4 foreign_code late.py
""",
    ),
    Case(
        "Drive as a target",
        """
from google.colab import drive
drive.mount("/content/drive")
OUT = "/content/drive/MyDrive/out"
----
import gdown, os
gdown.download("https://drive.google.com/uc?id=1AbCdEfGhIjKlMnOpQrStUvWx", os.path.join(OUT, "w.pt"))
----
%cd /content/drive/MyDrive
!git clone https://github.com/maker/kept
----
!cp -r /content/results "$OUT"
----
import shutil
shutil.copy(OUT + "/in.txt", "/content/in.txt")
----
import torch
torch.save({}, f"{OUT}/last.pt")
""",
        """
0 credential google-drive
1 download gdrive:1AbCdEfGhIjKlMnOpQrStUvWx
1 personal_files drive:/content/drive/MyDrive/out/w.pt
2 personal_files drive:/content/drive/MyDrive
2 clone https://github.com/maker/kept
2 personal_files drive:/content/drive/MyDrive/kept
3 personal_files drive:/content/drive/MyDrive/out
4 personal_files drive:/content/drive/MyDrive/out/in.txt
5 personal_files drive:/content/drive/MyDrive/out/last.pt
""",
    ),
    Case(
        "a clone's own loader",
        """
!git clone https://github.com/maker/mover
%cd mover
!wget https://host.example/w/net.pth.tar -O checkpoints/net.pth.tar
----
from demo import load_checkpoints
net = load_checkpoints(config_path="config/a.yaml", checkpoint_path="checkpoints/net.pth.tar")
""",
        """
0 clone https://github.com/maker/mover
0 download https://host.example/w/net.pth.tar
1 foreign_code demo
1 unpickle mover/checkpoints/net.pth.tar
""",
    ),
    Case(
        "accounts in many spellings",
        """
from google.colab import userdata, auth
from getpass import getpass
import os
os.environ["OPENAI_API_KEY"] = userdata.get("OPENAI_API_KEY")
os.environ.setdefault("WANDB_API_KEY", getpass("wandb key: "))
----
auth.authenticate_user()
----
key = input("Paste your API key: ")
----
from huggingface_hub import login, HfApi
login(token=os.getenv("HF_TOKEN"))
----
import wandb
wandb.login()
wandb.init(project="p")
----
from kaggle_secrets import UserSecretsClient
UserSecretsClient().get_secret("TOKEN")
----
!huggingface-cli login --token $HF_TOKEN
----
import kagglehub
kagglehub.login()
""",
        """
0 credential secret:OPENAI_API_KEY
0 credential env:OPENAI_API_KEY
0 credential env:WANDB_API_KEY
0 credential prompt:WANDB_API_KEY
1 credential google-account
2 credential prompt:key
3 credential env:HF_TOKEN
3 credential huggingface
4 credential wandb
4 send wandb
5 credential secret:TOKEN
6 credential huggingface
7 credential kaggle
""",
    ),
    Case(
        "servers and tunnels",
        """
import gradio as gr
with gr.Blocks() as page:
    gr.Textbox()
page.queue().launch(share=True, debug=True)
----
!pip install pyngrok
from pyngrok import ngrok
ngrok.set_auth_token("<your token>")
public = ngrok.connect(7860)
----
!npm install -g localtunnel
!streamlit run app.py & npx localtunnel --port 8501
----
import subprocess
subprocess.Popen(["python", "-m", "http.server", "8123"])
----
!wget -q https://github.com/cloudflare/cloudflared/releases/latest/download/cloudflared-linux-amd64
!chmod +x cloudflared-linux-amd64
!nohup ./cloudflared-linux-amd64 tunnel --url http://localhost:7860 &
----
from google.colab.output import eval_js
print(eval_js("google.colab.kernel.proxyPort(5000)"))
----
from flask import Flask
app = Flask(__name__)
app.run(host="0.0.0.0", port=8055)
""",
        """
0 serve gradio-share
1 install pip:pyngrok
1 credential ngrok
1 serve ngrok
2 install npm:localtunnel
2 serve launch
2 serve localtunnel
3 process python
3 serve port:8123
4 download https://github.com/cloudflare/cloudflared/releases/latest/download/cloudflared-linux-amd64
4 foreign_code cloudflared-linux-amd64
4 serve cloudflared
5 serve colab-proxy
6 serve port:8055
""",
    ),
    Case(
        "deletes and what it made itself",
        """
!rm -rf /content/sample_data
----
import shutil
shutil.rmtree("/content/old", ignore_errors=True)
----
!mkdir -p out && rm -rf out
!rm -rf clip.mp4*
!ffmpeg -i in.avi -y clip.mp4
----
!pip uninstall -y tensorflow
----
import os, signal
os.kill(os.getpid(), 9)
----
!sed -i 's/a/b/' /usr/local/lib/python3.11/dist-packages/torch/x.py
----
!rm -rf *
""",
        """
0 destructive /content/sample_data
1 destructive /content/old
3 destructive uninstall:pip:tensorflow
4 destructive kill-runtime
5 destructive /usr/local/lib/python3.11/dist-packages/torch/x.py
6 destructive *
""",
    ),
    Case(
        "code that is made on the way",
        """
import base64
exec(base64.b64decode("cHJpbnQoMSk="))
----
eval("1 + 1")
----
src = open("x.py").read()
exec(compile(src, "x.py", "exec"))
----
get_ipython().run_cell("print(1)")
name = input("what? ")
get_ipython().run_cell(name)
----
__builtins__.exec(name)
""",
        """
0 dynamic_code ?base64.b64decode("cHJpbnQoMSk=")
2 dynamic_code ?src
3 dynamic_code ?name
4 dynamic_code ?name
""",
    ),
    Case(
        "tools of hubs that run code",
        """
from transformers import AutoModelForCausalLM, pipeline
AutoModelForCausalLM.from_pretrained("org/odd-net", trust_remote_code=True, revision="0123456789abcdef0123456789abcdef01234567")
----
import torch
net = torch.hub.load("maker/nets:v1.0", "big", pretrained=True)
----
from smolagents import load_tool
tool = load_tool("org/tool-box", trust_remote_code=True)
----
from datasets import load_dataset
load_dataset("org/script-rows", trust_remote_code=True)
""",
        """
0 model hf:org/odd-net
0 foreign_code hf:org/odd-net
1 model https://github.com/maker/nets
1 foreign_code https://github.com/maker/nets
2 foreign_code hf:org/tool-box
3 dataset hf:org/script-rows
3 foreign_code hf:org/script-rows
""",
    ),
    Case(
        "pages driven by a browser",
        """
from selenium import webdriver
driver = webdriver.Chrome()
driver.get("https://pages.example/start")
----
from playwright.sync_api import sync_playwright
with sync_playwright() as p:
    page = p.chromium.launch().new_page()
    page.goto("https://pages.example/next")
""",
        """
0 download https://pages.example/start
1 download https://pages.example/next
""",
    ),
    Case(
        "magics nobody knows",
        """
%download https://host.example/a.safetensors
----
%whatever now
""",
        """
0 download https://host.example/a.safetensors
""",
    ),
    Case(
        "hardware by its words",
        """
import torch
dev = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
net = torch.nn.Linear(2, 2).to(dev)
----
x = torch.ones(2, device="cuda")
""",
        """
-1 hardware gpu
""",
        COLAB_GPU,
    ),
    Case(
        "a submodule and a branch",
        """
!git clone --recurse-submodules -b v1.2.3 https://github.com/maker/deep /content/deep
!cd /content/deep && git submodule update --init --recursive
----
%cd /content/deep
!make -j4
!./configure && make install
----
!pip install -e ./deep_pkg -r extra/requirements.txt
""",
        """
0 clone https://github.com/maker/deep
0 clone ?git submodule update
1 foreign_code /content/deep
1 foreign_code /content/deep/configure
2 install pip:/content/deep/deep_pkg
2 foreign_code /content/deep/deep_pkg
2 install pip:-r /content/deep/extra/requirements.txt
2 foreign_code /content/deep/extra/requirements.txt
""",
    ),
    Case(
        "remote models by their clients",
        """
from openai import OpenAI
import os
client = OpenAI(api_key=os.environ["OPENAI_API_KEY"])
client.chat.completions.create(model="m", messages=[])
----
import anthropic
anthropic.Anthropic().messages.create(model="m", max_tokens=5, messages=[])
----
from google import genai
g = genai.Client(api_key="YOUR_KEY")
g.models.generate_content(model="m", contents="hi")
----
local = OpenAI(base_url="http://localhost:11434/v1", api_key="none")
local.chat.completions.create(model="m", messages=[])
""",
        """
0 credential env:OPENAI_API_KEY
0 send openai
1 send anthropic
2 credential prompt:api_key
2 send google-genai
""",
    ),
]

TRICKS += [
    Case(
        "hub names while standing in a clone",
        """
!git clone https://github.com/maker/studio
%cd studio
----
from transformers import AutoModel, AutoTokenizer
AutoModel.from_pretrained("org/net")
AutoTokenizer.from_pretrained("outputs/checkpoint-500")
AutoModel.from_pretrained("checkpoints/own")
----
from datasets import load_dataset
load_dataset("org/rows")
----
!python train.py --model_name_or_path org/start --pretrained_vae_name_or_path org/vae --output_dir out
""",
        """
0 clone https://github.com/maker/studio
1 model hf:org/net
2 dataset hf:org/rows
3 foreign_code studio/train.py
3 model hf:org/start
3 model hf:org/vae
""",
    ),
    Case(
        "functions handed over",
        """
import requests, threading, functools
from joblib import Parallel, delayed
from concurrent.futures import ThreadPoolExecutor

def get(url, folder="."):
    return requests.get(url)

Parallel(n_jobs=2)(delayed(get)(u) for u in ["https://h.example/1", "https://h.example/2"])
with ThreadPoolExecutor() as pool:
    pool.map(get, ["https://h.example/3"])
    pool.submit(get, "https://h.example/4", folder="x")
threading.Thread(target=get, args=("https://h.example/5",)).start()
functools.partial(get, folder="y")("https://h.example/6")
""",
        """
0 download https://h.example/1
0 download https://h.example/2
0 download https://h.example/3
0 download https://h.example/4
0 download https://h.example/5
0 download https://h.example/6
""",
    ),
    Case(
        "a script's own command line",
        """
%%writefile fetch.py
import argparse, urllib.request
from transformers import AutoModel
parser = argparse.ArgumentParser()
parser.add_argument("--model", default="org/default")
parser.add_argument("--data-url", default="https://h.example/default.zip")
args = parser.parse_args()
AutoModel.from_pretrained(args.model)
urllib.request.urlretrieve(args.data_url, "x.zip")
----
!python fetch.py --model org/given
----
from dataclasses import dataclass

@dataclass
class Book:
    title: str
    url: str = ""

import requests
for book in [Book("a", "https://h.example/a.txt"), Book(title="b", url="https://h.example/b.txt")]:
    requests.get(book.url)
----
gpu = "T4" in "..."
first, second = ("alpha==1", "beta") if gpu else ("alpha==2", "beta")
!pip install {first} {second}
""",
        """
0 model hf:org/given
0 download https://h.example/default.zip
1 model hf:org/given
2 download https://h.example/a.txt
2 download https://h.example/b.txt
3 install pip:alpha
3 install pip:beta
""",
    ),
    Case(
        "text that commands print",
        """
!sh -c "$(curl -fsSL https://h.example/a.sh)"
!bash <(curl -s https://h.example/b.sh)
----
%%bash -s "second" 7
wget https://h.example/$1/$2.bin
for n in $(seq 1 2); do curl -O "https://h.example/part-$n"; done
----
!docker run --gpus all -p 8080:80 -e HF_TOKEN=$(cat t) ghcr.example/serve:1.0 --model-id org/net
""",
        """
0 download https://h.example/a.sh
0 foreign_code https://h.example/a.sh
0 download https://h.example/b.sh
0 foreign_code https://h.example/b.sh
1 download https://h.example/second/7.bin
1 download https://h.example/part-1
1 download https://h.example/part-2
2 foreign_code ghcr.example/serve:1.0
2 hardware gpu
2 serve port:8080
2 credential env:HF_TOKEN
2 model hf:org/net
""",
    ),
    Case(
        "what a test says of a name",
        """
def weights(kind):
    if kind == 1:
        !wget https://h.example/one.bin
    elif kind == "two":
        !wget https://h.example/{kind}.bin
    else:
        !gdown {kind}
weights(1)
weights("two")
----
#form
where = "eu" #@param ["eu", "us"]
if where == "eu":
    !wget https://h.example/{where}/only-eu.bin
else:
    !wget https://h.example/{where}/not-eu.bin
""",
        """
0 download https://h.example/one.bin
0 download https://h.example/two.bin
0 download ?kind
1 hidden_code cell
1 download https://h.example/eu/only-eu.bin
1 download https://h.example/us/not-eu.bin
""",
    ),
    Case(
        "links into the Drive",
        r"""
from google.colab import drive
drive.mount("/content/drive")
%cd /content/drive/My\ Drive/art
----
%cd /content
!git clone https://github.com/maker/webui
!ln -s /content/drive/MyDrive/styles.csv /content/webui/
!wget https://h.example/w.bin -O /content/webui/models/w.bin
----
!ln -s /content/drive/MyDrive/kept /content/kept
!wget https://h.example/v.bin -O /content/kept/v.bin
""",
        """
0 credential google-drive
0 personal_files drive:/content/drive/My Drive/art
1 clone https://github.com/maker/webui
1 personal_files drive:/content/drive/MyDrive/styles.csv
1 download https://h.example/w.bin
2 personal_files drive:/content/drive/MyDrive/kept
2 download https://h.example/v.bin
2 personal_files drive:/content/drive/MyDrive/kept/v.bin
""",
    ),
]

TRICKS += [
    Case(
        "keys in many places",
        """
import os
os.environ["OPENAI_API_KEY"] = "sk-proj-abcdEFGHijklMNOPqrstUVWXyz0123456789"
----
#form
password = "hunter2horse" #@param {type:"string"}
hf_token = "" #@param {type:"string"}
----
!echo '{"username":"me","key":"k"}' > ~/.kaggle/kaggle.json
----
import boto3
boto3.client("s3", aws_access_key_id="AKIAABCDEFGHIJKLMNOP", aws_secret_access_key="YOUR_SECRET")
----
api_key = "xxxxxxxxxxxxxxxxxxxx"
""",
        """
0 credential env:OPENAI_API_KEY
0 credential literal:openai
1 hidden_code cell
1 credential literal:password
1 credential prompt:hf_token
2 credential kaggle
3 credential literal:aws
3 credential prompt:aws_secret_access_key
4 credential prompt:api_key
""",
    ),
    Case(
        "data that leaves by other ways",
        """
import socket
s = socket.socket()
s.connect(("collect.example", 443))
s.connect(("127.0.0.1", 80))
----
import telegram
telegram.Bot("t").send_message(1, "x")
----
!curl -X POST https://hooks.example/x -H "Authorization: Bearer $HF_TOKEN"
----
!rsync -a out/ me@box.example:out
!git push
----
import requests
requests.request("PUT", "https://put.example/a", data={})
requests.post("http://localhost:5000/x")
""",
        """
0 send collect.example
1 send telegram
2 send hooks.example
3 send box.example
3 send git remote
4 send put.example
""",
    ),
]

TRICKS += [
    Case(
        "loops that count",
        """
import requests
for page in range(100):
    requests.get(f"https://h.example/list?page={page}")
----
for n in range(2):
    !wget https://h.example/part{n}.zip
----
names = ["a", "b", "c", "d", "e", "f", "g", "h"]
for i in range(len(names)):
    !wget https://h.example/{names[i]}.txt
----
base = "https://h.example"
kind = "x" #@param ["x", "y"]
for url in [base + "/" + kind, base + "/always", base + "/z", base + "/w", base + "/v", base + "/u", base + "/t"]:
    requests.get(url)
""",
        """
0 download ?f"https://h.example/list?page={page}"
1 download https://h.example/part0.zip
1 download https://h.example/part1.zip
2 download https://h.example/a.txt
2 download https://h.example/b.txt
2 download https://h.example/c.txt
2 download https://h.example/d.txt
2 download https://h.example/e.txt
2 download https://h.example/f.txt
2 download https://h.example/g.txt
2 download https://h.example/h.txt
3 download https://h.example/x
3 download https://h.example/y
3 download https://h.example/always
3 download https://h.example/z
3 download https://h.example/w
3 download https://h.example/v
3 download https://h.example/u
3 download https://h.example/t
""",
    ),
]
