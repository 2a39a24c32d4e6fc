"""`share=True` of Gradio as a local link: nothing is sent to its service, the port is shown by the run itself."""

import importlib.util
import sys


def patched(name: str, path: object) -> object:
    """The spec of `gradio.blocks`, with `Blocks.launch` taught to ask for no public link."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return spec
    load = spec.loader.exec_module

    def exec_module(module: object) -> None:
        load(module)
        try:
            module.Blocks.launch = _launching(module.Blocks.launch)
        except AttributeError:
            pass

    spec.loader.exec_module = exec_module
    return spec


def _launching(launch: object) -> object:
    import functools

    @functools.wraps(launch)
    def local(self: object, *args: object, **options: object) -> object:
        wanted = options.pop("share", False)
        options.pop("inbrowser", None)
        if wanted:
            print("allmend: no public link is made; the server is shown on this machine, by a link in the run's page")
        made = launch(self, *args, **(options | {"share": False}))
        try:
            from google.colab import _box

            if wanted:
                self.share_url = _box.address(self.server_port)
        except Exception as error:
            print(f"allmend: {error}", file=sys.stderr)
        return made

    return local
