"""Synthetic notebooks with the effects that a person lists for them by `docs/plan.md`.

A notebook is written as text: cells are parted by a line `----`; a first line `#form` hides the cell's code. Labels are
lines `CELL KIND TARGET`; a target `?EXPRESSION` is one that cannot be worked out.
"""

from __future__ import annotations

from labelled_case import COLAB_GPU, Case

CASES = [
    Case(
        "pip in every spelling",
        """
!pip install -q numpy pandas==2.2.0 "scikit_learn>=1.2"
----
%pip install Unsloth[colab] --upgrade
----
!python -m pip install --index-url https://host.example/simple torch==2.1.0
----
%%bash
pip3 install -U einops && uv pip install 'trl==0.9.6'
----
import subprocess, sys
subprocess.check_call([sys.executable, "-m", "pip", "install", "rich"])
----
import os
os.system("pip install flask")
----
!pip install git+https://github.com/someone/tool.git@main
----
!pip install https://host.example/w/pkg-1.0-py3-none-any.whl
""",
        """
0 install pip:numpy
0 install pip:pandas
0 install pip:scikit-learn
1 install pip:unsloth
2 install pip:torch
3 install pip:einops
3 install pip:trl
4 install pip:rich
4 process python
5 install pip:flask
5 process pip
6 install pip:git+https://github.com/someone/tool.git@main
6 foreign_code git+https://github.com/someone/tool.git@main
7 install pip:https://host.example/w/pkg-1.0-py3-none-any.whl
7 foreign_code https://host.example/w/pkg-1.0-py3-none-any.whl
""",
    ),
    Case(
        "system packages",
        """
!apt-get update && apt-get -y install -qq aria2 ffmpeg
----
!sudo apt install -y libgl1=1.0
----
!conda install -c conda-forge -y faiss-gpu rdkit=2023.03
----
!npm install -g localtunnel
""",
        """
0 install apt:aria2
0 install apt:ffmpeg
1 install apt:libgl1
2 install conda:faiss-gpu
2 install conda:rdkit
3 install npm:localtunnel
""",
    ),
    Case(
        "clone and run",
        """
!git clone https://github.com/maker/painter.git
%cd painter
!pip install -r requirements.txt
----
!python generate.py --steps 20
""",
        """
0 clone https://github.com/maker/painter
0 install pip:-r painter/requirements.txt
0 foreign_code painter/requirements.txt
1 foreign_code painter/generate.py
""",
    ),
    Case(
        "clone pinned by checkout",
        """
%%bash
git clone https://github.com/maker/painter /content/p
cd /content/p
git checkout 3f2a9c1d
pip install -e .
----
!python /content/p/run.py
""",
        """
0 clone https://github.com/maker/painter
0 install pip:/content/p
0 foreign_code /content/p
1 foreign_code /content/p/run.py
""",
    ),
    Case(
        "import from a clone",
        """
import sys
!git clone --depth 1 https://github.com/lab/voicebox
sys.path.append("voicebox")
----
import torch
import numpy as np
from vocoder.models import Net
from vocoder.tools import load
import pipelines_of_ours
""",
        """
0 clone https://github.com/lab/voicebox
1 foreign_code vocoder
1 foreign_code pipelines_of_ours
""",
    ),
    Case(
        "form values across cells",
        """
repo = "maker/painter" #@param {type:"string"}
host = "https://weights.example/files"
name = f"{repo.split('/')[1]}.ckpt"
----
import os
folder = os.path.join("/content", "models")
url = host + "/" + name
!wget {url} -O $folder/$name
----
!git clone https://github.com/{repo}
""",
        """
1 download https://weights.example/files/painter.ckpt
2 clone https://github.com/maker/painter
""",
    ),
    Case(
        "wrapper called three times",
        """
import urllib.request
def fetch(url, out=None):
    urllib.request.urlretrieve(url, out or url.split("/")[-1])
----
fetch("https://a.example/one.bin")
fetch("https://a.example/two.bin", "2.bin")
for part in ["x", "y"]:
    fetch(f"https://b.example/{part}.bin")
""",
        """
0 download https://a.example/one.bin
0 download https://a.example/two.bin
0 download https://b.example/x.bin
0 download https://b.example/y.bin
""",
    ),
    Case(
        "Drive in and out",
        """
from google.colab import drive
drive.mount('/content/drive')
----
import pandas as pd
df = pd.read_csv('/content/drive/MyDrive/data/in.csv')
df.to_csv('/content/drive/MyDrive/data/out.csv')
----
!cp result.png /content/drive/MyDrive/results/
""",
        """
0 credential google-drive
1 personal_files drive:/content/drive/MyDrive/data/in.csv
1 personal_files drive:/content/drive/MyDrive/data/out.csv
2 personal_files drive:/content/drive/MyDrive/results
""",
    ),
    Case(
        "upload and download dialogs",
        """
from google.colab import files
up = files.upload()
----
files.download("result.zip")
""",
        """
0 personal_files upload
1 personal_files download
""",
    ),
    Case(
        "secrets",
        """
from google.colab import userdata
import os
os.environ["OPENAI_API_KEY"] = userdata.get("OPENAI_KEY")
----
from getpass import getpass
token = getpass("Token: ")
----
key = os.environ["SERVICE_API_KEY"]
----
from huggingface_hub import notebook_login
notebook_login()
----
!huggingface-cli login --token $HF
----
import wandb
wandb.login()
----
api_key = "" #@param {type:"string"}
----
from google.colab import auth
auth.authenticate_user()
""",
        """
0 credential secret:OPENAI_KEY
0 credential env:OPENAI_API_KEY
1 credential prompt:token
2 credential env:SERVICE_API_KEY
3 credential huggingface
4 credential huggingface
5 credential wandb
6 credential prompt:api_key
7 credential google-account
""",
    ),
    Case(
        "models of a hub",
        """
from transformers import AutoTokenizer, AutoModelForCausalLM, pipeline
name = "someorg/tiny-model"
tok = AutoTokenizer.from_pretrained(name)
model = AutoModelForCausalLM.from_pretrained(name, revision="v1.0")
----
p = pipeline("text-generation", model="bert-base-cased")
----
from huggingface_hub import hf_hub_download, snapshot_download
f = hf_hub_download("org/files", "w.safetensors")
snapshot_download(repo_id="org/all")
----
import timm
net = timm.create_model("resnet18", pretrained=True)
plain = timm.create_model("resnet34")
----
from sentence_transformers import SentenceTransformer
e = SentenceTransformer("all-MiniLM-L6-v2")
----
model.save_pretrained("mine")
again = AutoModelForCausalLM.from_pretrained("mine")
local = AutoModelForCausalLM.from_pretrained("./checkpoints/last")
""",
        """
0 model hf:someorg/tiny-model
1 model hf:bert-base-cased
2 model hf:org/files
2 model hf:org/all
3 model hf:resnet18
4 model hf:all-MiniLM-L6-v2
""",
    ),
    Case(
        "remote code",
        """
from transformers import AutoModel
m = AutoModel.from_pretrained("org/strange", trust_remote_code=True)
----
import torch
n = torch.hub.load("org/repo:v1.2", "net")
""",
        """
0 model hf:org/strange
0 foreign_code hf:org/strange
1 model https://github.com/org/repo
1 foreign_code https://github.com/org/repo
""",
    ),
    Case(
        "data sets",
        """
from datasets import load_dataset
a = load_dataset("org/rows", split="train")
b = load_dataset("csv", data_files="mine.csv")
----
import tensorflow_datasets as tfds
c = tfds.load("mnist")
----
from torchvision import datasets
d = datasets.CIFAR10("data", download=True)
e = datasets.MNIST("data", download=False)
----
from sklearn.datasets import fetch_california_housing, load_iris
f = fetch_california_housing()
g = load_iris()
----
import tensorflow as tf
(x, y), _ = tf.keras.datasets.fashion_mnist.load_data()
----
import kagglehub
path = kagglehub.dataset_download("owner/things")
----
!kaggle datasets download -d owner/others
""",
        """
0 dataset hf:org/rows
1 dataset tfds:mnist
2 dataset torchvision:CIFAR10
3 dataset sklearn:california_housing
4 dataset keras:fashion_mnist
5 dataset kaggle:owner/things
6 dataset kaggle:owner/others
""",
    ),
    Case(
        "sending",
        """
import requests
requests.post("https://hooks.example/notify", json={"a": 1})
----
from openai import OpenAI
client = OpenAI()
r = client.chat.completions.create(model="m", messages=[])
----
import wandb
run = wandb.init(project="x")
----
from google import genai
c = genai.Client(api_key="k")
c.models.generate_content(model="m", contents="hi")
----
model.push_to_hub("me/model")
----
from huggingface_hub import HfApi
HfApi().upload_file(path_or_fileobj="a", path_in_repo="a", repo_id="me/x")
----
requests.post("http://localhost:8000/x", json={})
----
local = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")
local.chat.completions.create(model="m", messages=[])
""",
        """
0 send hooks.example
1 send openai
2 send wandb
3 send google-genai
4 send huggingface
5 send huggingface
""",
    ),
    Case(
        "web interface of a clone",
        """
%cd /content
!git clone https://github.com/maker/webui
%cd webui
----
!python launch.py --share --disable-safe-unpickle
----
!npx localtunnel --port 7860
----
!cloudflared tunnel --url http://127.0.0.1:7860
----
!ngrok http 7860
""",
        """
-1 hardware gpu
0 clone https://github.com/maker/webui
1 foreign_code /content/webui/launch.py
1 serve gradio-share
1 unpickle flag:disable-safe-unpickle
2 install npm:localtunnel
2 serve localtunnel
3 serve cloudflared
4 serve ngrok
""",
        COLAB_GPU,
    ),
    Case(
        "gradio and servers",
        """
import gradio as gr
demo = gr.Interface(lambda x: x, "text", "text")
demo.launch(share=True)
----
with gr.Blocks() as ui:
    gr.Textbox()
ui.launch(server_port=7861)
----
ui.launch()
----
from flask import Flask
app = Flask("a")
app.run(port=5005)
----
!python -m http.server 9000
""",
        """
0 serve gradio-share
1 serve port:7861
2 serve launch
3 serve port:5005
4 serve port:9000
""",
    ),
    Case(
        "pickles",
        """
import torch, pickle, joblib
import numpy as np
a = torch.load("w.pt")
b = torch.load("w.pt", weights_only=True)
----
with open("data.pkl", "rb") as f:
    d = pickle.load(f)
----
m = joblib.load("m.joblib")
z = np.load("z.npy", allow_pickle=True)
y = np.load("y.npy")
----
import pandas as pd
q = pd.read_pickle("frame.pkl")
""",
        """
0 unpickle w.pt
1 unpickle data.pkl
2 unpickle m.joblib
2 unpickle z.npy
3 unpickle frame.pkl
""",
    ),
    Case(
        "dynamic code",
        """
import requests
code = requests.get("https://x.example/code.py").text
exec(code)
----
import base64
exec(base64.b64decode(blob))
----
eval("1 + 1")
----
model.eval()
model.compile(loss="mse")
""",
        """
0 download https://x.example/code.py
0 dynamic_code code
0 foreign_code https://x.example/code.py
1 dynamic_code base64.b64decode(blob)
""",
    ),
    Case(
        "piped to a shell",
        """
!curl -fsSL https://get.example/install.sh | sh
----
%%bash
wget -qO- https://get.example/setup.py | python3 -
----
!bash <(curl -s https://get.example/more.sh)
----
!wget -q https://get.example/last.sh -O - | bash /dev/stdin -m big
""",
        """
0 download https://get.example/install.sh
0 foreign_code https://get.example/install.sh
1 download https://get.example/setup.py
1 foreign_code https://get.example/setup.py
2 download https://get.example/more.sh
2 foreign_code https://get.example/more.sh
3 download https://get.example/last.sh
3 foreign_code https://get.example/last.sh
""",
    ),
    Case(
        "deleting",
        """
!rm -rf sample_data
----
!mkdir work
!rm -rf work
----
import shutil
shutil.rmtree("/content/old")
----
!pip uninstall -y torch torchvision
----
!sed -i 's/a/b/' /usr/local/lib/python3.10/dist-packages/pkg/mod.py
----
!rm one.txt
----
from google.colab import runtime
runtime.unassign()
----
!git clone https://github.com/a/b
!rm -rf b
""",
        """
0 destructive sample_data
2 destructive /content/old
3 destructive uninstall:pip:torch
3 destructive uninstall:pip:torchvision
4 destructive /usr/local/lib/python3.10/dist-packages/pkg/mod.py
6 destructive kill-runtime
7 clone https://github.com/a/b
""",
    ),
    Case(
        "programs from Python",
        """
import subprocess
subprocess.run(["ffmpeg", "-i", "a.mp4", "b.wav"])
----
import os
os.system("mkdir out")
os.popen("ls").read()
----
p = subprocess.Popen("wget https://f.example/a.zip", shell=True)
----
get_ipython().system("unzip a.zip")
----
from subprocess import run as r
r(["git", "clone", "https://github.com/x/y"])
----
cmd = ["python", "train.py"]
subprocess.call(cmd)
""",
        """
0 process ffmpeg
1 process mkdir
1 process ls
2 process wget
2 download https://f.example/a.zip
3 process unzip
4 process git
4 clone https://github.com/x/y
5 process python
""",
    ),
    Case(
        "accelerators",
        """
import torch
x = torch.zeros(3).cuda()
----
!nvidia-smi
""",
        """
0 hardware gpu
""",
    ),
    Case(
        "accelerator in the metadata",
        """
print(1)
----
model.to("cuda")
""",
        """
-1 hardware gpu
""",
        COLAB_GPU,
    ),
    Case(
        "TPU",
        """
import tensorflow as tf
resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
""",
        """
0 hardware tpu
""",
    ),
    Case(
        "hidden cells",
        """
#form
#@title Set up
!pip install left-pad
----
#form
x = 1
----
y = 2
""",
        """
0 hidden_code cell
0 install pip:left-pad
1 hidden_code cell
""",
    ),
    Case(
        "an ordinary lesson",
        """
import numpy as np
import pandas as pd
import matplotlib.pyplot as plt
%matplotlib inline
----
#md
# Linear regression
`pip install nothing` and https://example.org are only text.
----
from sklearn.linear_model import LinearRegression
x = np.arange(10).reshape(-1, 1)
model = LinearRegression().fit(x, x)
plt.plot(x)
# !rm -rf /
----
frame = pd.read_csv("local.csv")
frame?
%timeit sum(range(100))
""",
        """
""",
    ),
    Case(
        "aria2 and loops",
        """
base = "https://huggingface.co/org/w/resolve/main"
for n in range(1, 3):
    !aria2c -x 16 -d /content/models -o part{n}.bin {base}/part{n}.bin
----
%%bash
for name in one two; do
  wget -q https://files.example/$name.zip
done
----
names = {"a": "https://files.example/a.pt", "b": "https://files.example/b.pt"}
for k, v in names.items():
    !curl -L -o {k}.pt {v}
""",
        """
0 download https://huggingface.co/org/w/resolve/main/part1.bin
0 download https://huggingface.co/org/w/resolve/main/part2.bin
1 download https://files.example/one.zip
1 download https://files.example/two.zip
2 download https://files.example/a.pt
2 download https://files.example/b.pt
""",
    ),
    Case(
        "Google Drive links",
        """
!gdown 1AbCdEfGhIjKlMnOpQrStUv
----
!gdown --id 1ZbCdEfGhIjKlMnOpQrStUv -O w.pt
----
import gdown
gdown.download("https://drive.google.com/uc?id=1QbCdEfGhIjKlMnOpQrStUv", "x.zip")
----
!gdown --fuzzy "https://drive.google.com/file/d/1WbCdEfGhIjKlMnOpQrStUv/view?usp=sharing"
""",
        """
0 download gdrive:1AbCdEfGhIjKlMnOpQrStUv
1 download gdrive:1ZbCdEfGhIjKlMnOpQrStUv
2 download gdrive:1QbCdEfGhIjKlMnOpQrStUv
3 download gdrive:1WbCdEfGhIjKlMnOpQrStUv
""",
    ),
    Case(
        "written script is run",
        """
%%writefile setup.sh
pip install wheelhouse
wget https://files.example/z.bin
----
!bash setup.sh
----
%%writefile never.sh
pip install nothing-at-all
""",
        """
0 install pip:wheelhouse
0 download https://files.example/z.bin
""",
    ),
    Case(
        "a fetched program",
        """
!wget -q https://tools.example/agent-linux -O agent
!chmod +x agent
!./agent --serve
----
!wget https://tools.example/run.py
%run run.py
""",
        """
0 download https://tools.example/agent-linux
0 foreign_code agent
1 download https://tools.example/run.py
1 foreign_code run.py
""",
    ),
    Case(
        "conditions list both ways",
        """
kind = "small" #@param ["small", "large"]
if kind == "small":
    url = "https://m.example/s.bin"
else:
    url = "https://m.example/l.bin"
!wget $url
----
if True:
    !pip install one
else:
    !pip install two
""",
        """
0 download https://m.example/s.bin
0 download https://m.example/l.bin
1 install pip:one
1 install pip:two
""",
    ),
    Case(
        "what cannot be worked out",
        """
link = "" #@param {type:"string"}
!wget {link}
----
import requests
def get(address):
    return requests.get(address).json()
""",
        """
0 download ?link
1 download ?address
""",
    ),
    Case(
        "broken and old Python",
        """
print "old"
import os
os.system("pip install legacy")
----
def broken(:
    pass
!pip install still-read
""",
        """
0 process pip
0 install pip:legacy
1 install pip:still-read
""",
    ),
    Case(
        "hidden through getattr",
        """
import importlib
m = importlib.import_module("sub" + "process")
getattr(m, "ru" + "n")(["curl", "-O", "https://h.example/p"])
----
o = __import__("os")
o.system("wget https://h.example/q")
""",
        """
0 process curl
0 download https://h.example/p
1 process wget
1 download https://h.example/q
""",
    ),
    Case(
        "literal tokens",
        """
from huggingface_hub import login
login(token="@HUB@")
----
import os
os.environ["HF_TOKEN"] = "YOUR_TOKEN"
----
!git clone https://user:@CODE@@github.com/me/private
""",
        """
0 credential huggingface
0 credential literal:huggingface
1 credential env:HF_TOKEN
2 credential literal:github
2 clone https://***@github.com/me/private
""",
    ),
    Case(
        "environment and kaggle",
        """
%env WANDB_API_KEY=abc
----
!mkdir -p ~/.kaggle && cp kaggle.json ~/.kaggle/
----
!export HF_TOKEN=x && python -c "print(1)"
""",
        """
0 credential env:WANDB_API_KEY
1 credential kaggle
2 credential env:HF_TOKEN
""",
    ),
    Case(
        "built from source",
        """
%%bash
git clone https://github.com/c/engine
cd engine
./configure
make -j4
----
%cd engine
!python setup.py install
""",
        """
0 clone https://github.com/c/engine
0 foreign_code engine/configure
0 foreign_code engine
1 foreign_code engine/setup.py
""",
    ),
    Case(
        "keras, hub and speech",
        """
import tensorflow as tf
p = tf.keras.utils.get_file("x.zip", "https://d.example/x.zip")
----
import tensorflow_hub as hub
layer = hub.KerasLayer("https://tfhub.dev/org/net/1")
----
m = tf.keras.applications.MobileNetV2(weights="imagenet")
n = tf.keras.applications.ResNet50(weights=None)
----
import pandas as pd
t = pd.read_csv("https://d.example/t.csv")
""",
        """
0 download https://d.example/x.zip
1 model https://tfhub.dev/org/net/1
2 model keras:MobileNetV2
3 download https://d.example/t.csv
""",
    ),
    Case(
        "diffusers",
        """
import torch
from diffusers import StableDiffusionPipeline
pipe = StableDiffusionPipeline.from_pretrained("org/sd", torch_dtype=torch.float16)
pipe.load_lora_weights("org/style")
pipe = pipe.to("cuda")
----
pipe.save_pretrained("/content/drive/MyDrive/sd")
""",
        """
0 model hf:org/sd
0 model hf:org/style
0 hardware gpu
1 personal_files drive:/content/drive/MyDrive/sd
""",
    ),
    Case(
        "launchers",
        """
!git clone https://github.com/t/trainer
----
!accelerate launch --num_processes 1 trainer/train.py --pretrained_model_name_or_path org/base --push_to_hub --report_to wandb
----
!torchrun --nproc_per_node=2 trainer/dist.py
----
!cd trainer && python -m tools.convert
""",
        """
0 clone https://github.com/t/trainer
1 foreign_code trainer/train.py
1 model hf:org/base
1 send huggingface
1 send wandb
2 foreign_code trainer/dist.py
2 hardware gpu
3 foreign_code trainer/tools/convert.py
""",
    ),
    Case(
        "a class that wraps a service",
        """
from mistralai import Mistral
class Helper:
    def __init__(self, key):
        self.client = Mistral(api_key=key)
    def ask(self, text):
        return self.client.chat.complete(model="m", messages=[text])
----
h = Helper(input("API key: "))
h.ask("hello")
""",
        """
0 send mistral
1 credential prompt:api_key
""",
    ),
    Case(
        "working directory across cells",
        """
import os
!git clone https://github.com/o/deep
os.chdir("deep/inner")
----
!python go.py
----
%cd ..
!sh start.sh
----
%%bash
cd /content/deep && bash other.sh
""",
        """
0 clone https://github.com/o/deep
1 foreign_code deep/inner/go.py
2 foreign_code deep/start.sh
3 foreign_code /content/deep/other.sh
""",
    ),
    Case(
        "heredocs and functions of the shell",
        """
%%bash
get() { wget -q "https://s.example/$1"; }
get a.txt
get b.txt
cat > job.sh <<'EOF'
curl -O https://s.example/c.txt
EOF
bash job.sh
""",
        """
0 download https://s.example/a.txt
0 download https://s.example/b.txt
0 download https://s.example/c.txt
""",
    ),
    Case(
        "captured output and other magics",
        """
%%capture
!pip install quiet-one
----
lines = !git ls-files
!!pip install loud-one
----
%%time
%run https://s.example/remote.py
----
%tensorboard --logdir logs
""",
        """
0 install pip:quiet-one
1 install pip:loud-one
2 foreign_code https://s.example/remote.py
2 download https://s.example/remote.py
3 serve launch
""",
    ),
    Case(
        "proxied port",
        """
from google.colab import output
output.serve_kernel_port_as_window(8188)
----
from pyngrok import ngrok
ngrok.set_auth_token("YOUR_TOKEN")
url = ngrok.connect(8188)
----
!ssh -R 80:localhost:8188 nokey@localhost.run
""",
        """
0 serve colab-proxy
1 credential ngrok
1 serve ngrok
2 serve tunnel:localhost.run
""",
    ),
    Case(
        "sends a file elsewhere",
        """
!curl -F "file=@out.zip" https://drop.example/up
----
!gsutil cp gs://bucket/in.csv .
!gsutil cp out.csv gs://bucket/out.csv
----
!aws s3 cp s3://things/x.bin .
""",
        """
0 send drop.example
1 download gs://bucket/in.csv
1 send google-cloud-storage
2 download s3://things/x.bin
""",
    ),
]
