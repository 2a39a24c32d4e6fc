"""The stand-in for Colab's and Kaggle's modules against forty usages, in the order of how often real notebooks have them.

Counted over 1,247 notebooks (one a cluster); the number beside a usage is how many have it. The cells are ours.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import allmend
from allmend.nouns.receipt import Receipt

USAGES = {
    "userdata.get (107)": "from google.colab import userdata\nassert userdata.get('HF_TOKEN') == 'hf-granted'",
    "userdata.get into the environment": "import os\nos.environ['OTHER'] = userdata.get('HF_TOKEN')\nassert os.environ['OTHER']",
    "userdata.get of one that is not granted": "try: userdata.get('NEVER')\nexcept userdata.NotebookAccessError as e: assert 'NEVER' in str(e)\nelse: raise AssertionError",
    "userdata.get of one without a value": "try: userdata.get('EMPTY')\nexcept userdata.SecretNotFoundError as e: pass\nelse: raise AssertionError",
    "drive.mount (66)": "from google.colab import drive\ndrive.mount('/content/drive')\nassert open('/content/drive/MyDrive/kept.txt').read() == 'mine'",
    "drive.mount force_remount": "drive.mount('/content/drive', force_remount=True)",
    "drive with the old name": "assert os.path.exists('/content/drive/My Drive/kept.txt')",
    "drive.mount elsewhere": "drive.mount('/content/gdrive')\nassert os.listdir('/content/gdrive/MyDrive') == ['kept.txt']",
    "drive.flush_and_unmount": "drive.flush_and_unmount()",
    "files.upload (48)": "from google.colab import files\nuploaded = files.upload()\nassert list(uploaded) == ['given.csv'] and uploaded['given.csv'] == b'a,b'",
    "files.upload, the first name": "name = next(iter(uploaded)); assert len(uploaded[name]) == 3 and os.path.exists(name)",
    "files.upload_file": "files.upload_file('renamed.csv')\nassert open('renamed.csv').read() == 'a,b'",
    "files.download (41)": "open('made.txt', 'w').write('out')\nfiles.download('made.txt')",
    "files.download of nothing": "try: files.download('absent.txt')\nexcept FileNotFoundError: pass\nelse: raise AssertionError",
    "files.view": "files.view('made.txt')",
    "google.colab in sys.modules": "import sys\nassert 'google.colab' in sys.modules",
    "try import google.colab": "try:\n    import google.colab\n    IN_COLAB = True\nexcept ImportError:\n    IN_COLAB = False\nassert IN_COLAB",
    "COLAB_RELEASE_TAG": "assert any(name.startswith('COLAB_') for name in os.environ)",
    "/content": "assert os.getcwd() == '/content' and os.access('/content', os.W_OK)",
    "output.clear (9)": "from google.colab import output\nprint('gone'); output.clear()",
    "clear as clear_output": "from google.colab.output import clear as clear_output\nclear_output(wait=True)",
    "cv2_imshow (5)": "from google.colab.patches import cv2_imshow\nassert callable(cv2_imshow)",
    "eval_js, a port's address (5)": "url = output.eval_js('google.colab.kernel.proxyPort(7860, {\"cache\": true})')\nassert url.startswith('http://') and '7860' in url or 'localhost' in url",
    "eval_js, a sound": "output.eval_js('new Audio(\"data:audio/wav;base64,\").play()')",
    "eval_js, a warning": "output.eval_js('alert(\"low memory\")', ignore_result=True)",
    "eval_js, a plain value": "assert output.eval_js('\"plain\"') == 'plain'",
    "eval_js, the camera": "try: output.eval_js('takePhoto(0.8)')\nexcept RuntimeError as e: assert 'camera' in str(e)\nelse: raise AssertionError",
    "enable_custom_widget_manager (4)": "output.enable_custom_widget_manager()\noutput.disable_custom_widget_manager()",
    "auth.authenticate_user (4)": "from google.colab import auth\ntry: auth.authenticate_user()\nexcept auth.AuthorizationError: pass\nelse: raise AssertionError",
    "serve_kernel_port_as_iframe (4)": "output.serve_kernel_port_as_iframe(8000, path='/docs', height='500')",
    "serve_kernel_port_as_window (4)": "from google.colab.output import serve_kernel_port_as_window\nserve_kernel_port_as_window(8000)",
    "pyngrok (5)": "from pyngrok import ngrok, conf\nconf.get_default().region = 'eu'\nngrok.set_auth_token('t')\ntunnel = ngrok.connect(addr='5000', proto='http', bind_tls=True)\nassert tunnel.public_url.startswith('http') and ngrok.get_tunnels()[0] is tunnel\nngrok.kill()",
    "cloudflared (8)": "import subprocess\nassert 'local' in subprocess.run(['cloudflared', '--version'], capture_output=True, text=True).stdout",
    "localtunnel (3)": "p = subprocess.Popen(['lt', '--port', '8000'], stdout=subprocess.PIPE, text=True)\nassert p.stdout.readline().startswith('your url is: http')\np.kill(); p.wait(); p.stdout.close()",
    "register_callback (1)": "output.register_callback('notebook.double', lambda n: 2 * n)\nassert output.invoke('notebook.double', 4) == 8",
    "use_tags, redirect_to_element": "with output.use_tags('some'): print('tagged')\nwith output.redirect_to_element('#x'): print('here')",
    "widgets.TabBar": "from google.colab import widgets\nbar = widgets.TabBar(['one', 'two'])\nwith bar.output_to('one'): print('<first>')\nwith bar.output_to(1): print('second')",
    "widgets.Grid": "grid = widgets.Grid(2, 2, header_row=True)\nfor row, column in grid: print(row, column)",
    "data_table": "from google.colab import data_table\nimport pandas as pd\ndata_table.enable_dataframe_formatter()\nframe = pd.DataFrame({'n': range(60), 'word': ['</script>'] * 60})\ndisplay(frame)\ndata_table.DataTable(frame, include_index=False, num_rows_per_page=10)",
    "data_table off, %load_ext": "data_table.disable_dataframe_formatter()\nget_ipython().run_line_magic('load_ext', 'google.colab.data_table')\nget_ipython().run_line_magic('unload_ext', 'google.colab.data_table')",
    "kaggle_secrets (2)": "from kaggle_secrets import UserSecretsClient\nassert UserSecretsClient().get_secret('HF_TOKEN') == 'hf-granted'",
    "kaggle_secrets, not granted": "import kaggle_secrets\ntry: UserSecretsClient().get_secret('NEVER')\nexcept kaggle_secrets.BackendError as e: assert 'NEVER' in str(e)\nelse: raise AssertionError",
    "/kaggle/working (2)": "open('/kaggle/working/submission.csv', 'w').write('id')\nassert os.path.exists('/content/submission.csv')",
    "/kaggle/input (2)": "assert open('/kaggle/input/set/rows.csv').read() == 'n'",
    "runtime.unassign (2)": "from google.colab import runtime\nruntime.unassign()",
}

PERMISSIONS = """[files]
read = ["input"]
write = "out"
[secrets.HF_TOKEN]
hosts = ["*"]
[secrets.EMPTY]
hosts = ["*"]
[drive]
folder = "mine"
"""


def test_forty_usages_of_colab_and_kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf-granted")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept.txt").write_text("mine")
    (tmp_path / "input" / "set").mkdir(parents=True)
    (tmp_path / "input" / "set" / "rows.csv").write_text("n")
    (tmp_path / "given.csv").write_text("a,b")
    (tmp_path / "permissions.toml").write_text(PERMISSIONS)
    cells: list[dict[str, object]] = [
        {"cell_type": "code", "source": text, "metadata": {}, "outputs": [], "execution_count": None}
        for text in USAGES.values()
    ]
    notebook = {"cells": cells, "metadata": {"colab": {"name": "usages"}}, "nbformat": 4, "nbformat_minor": 4}
    (tmp_path / "usages.ipynb").write_text(json.dumps(notebook))
    receipt = allmend.run(
        tmp_path / "usages.ipynb",
        permissions=tmp_path / "permissions.toml",
        upload=[tmp_path / "given.csv"],
        output=tmp_path / "result",
        keep_going=True,
        yes=True,
        level="A",
    )
    assert isinstance(receipt, Receipt)
    failed = {name: cell.error for name, cell in zip(USAGES, receipt.cells, strict=True) if cell.status != "ok"}
    assert not failed
    assert receipt.ended == "finished"
    assert {file.path for file in receipt.files if file.exported} >= {"made.txt"}
    ran = json.loads((tmp_path / "result" / "usages.ipynb").read_text())["cells"]
    shown = dict(zip(USAGES, ran, strict=True))
    tabs = shown["widgets.TabBar"]["outputs"][-1]["data"]["text/html"]
    assert "&lt;first&gt;" in tabs
    assert "second" in tabs
    assert "1 1" in shown["widgets.Grid"]["outputs"][-1]["data"]["text/html"]
    table = shown["data_table"]["outputs"][0]["data"]["text/html"]
    assert "\\u003c/script>" in table
