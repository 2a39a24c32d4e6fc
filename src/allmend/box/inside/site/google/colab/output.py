"""Output helpers: what can be answered without Colab's page is answered, what cannot says so."""

import contextlib
import json
import re

from google.colab import _box

_PROXY_PORT = re.compile(r"(?:google\.colab\.)?kernel\.proxyPort\(\s*(\d{1,5})\b")
_SHOWS_ONLY = re.compile(r"\s*(?:alert|console\.\w+|new Audio|window\.open|document\.)")
_callbacks: dict = {}


def clear(wait: bool = False, output_tags: object = ()) -> None:
    """Clear the cell's output."""
    from IPython.display import clear_output

    clear_output(wait=wait)


def eval_js(script: str, ignore_result: bool = False, timeout_sec: object = None) -> object:
    """What the script would give, where that is known without a page: an address of a port, a plain value.

    A script that only shows or plays something is put into the cell's output. Raises RuntimeError for one whose answer
    would have to come from a person's browser: a camera, a microphone, a drawing.
    """
    asked = _PROXY_PORT.search(script)
    if asked:
        return _box.address(int(asked[1]))
    try:
        return json.loads(script.strip().rstrip(";"))
    except ValueError:
        pass
    if ignore_result or _SHOWS_ONLY.match(script):
        from IPython.display import Javascript, display

        display(Javascript(script))
        return None
    raise RuntimeError(
        "google.colab.output.eval_js waits here for an answer from Colab's own page (a camera, a microphone, a "
        "drawing, a value of the browser); there is no such page. Give the value as a parameter or a file instead: "
        "files.upload() takes files."
    )


def register_callback(function_name: str, callback: object) -> None:
    """Kept by name, for `invoke` and for buttons in outputs (`google.colab.kernel.invokeFunction`).

    On a page of `allmend app` the run stays open for them after its last cell; elsewhere nobody can click.
    """
    _callbacks[function_name] = callback
    with contextlib.suppress(_box.NotPermitted, OSError):
        _box.ask("callback")


def invoke(function_name: str, *args: object, **kwargs: object) -> object:
    """Call a registered callback, as Colab's page would."""
    if function_name not in _callbacks:
        raise KeyError(f"no callback is registered as {function_name!r}")
    return _callbacks[function_name](*args, **kwargs)


def _clicked(call: str) -> object:
    """What a click in an output asks for, as the page sent it: JSON of a name, positional and named arguments."""
    name, args, kwargs = json.loads(call)
    return invoke(name, *args, **kwargs)


def serve_kernel_port_as_window(
    port: int, path: str = "/", anchor_text: object = None, cache_in_notebook: bool = False
) -> None:
    """Say where the server is shown: its link is in the page of the run, or in the terminal."""
    print(f"{anchor_text or 'The server'}: {_box.address(port, path)}")


def serve_kernel_port_as_iframe(
    port: int, path: str = "/", width: object = "100%", height: object = 400, cache_in_notebook: bool = False
) -> None:
    """As a window: a frame of another page's making has no place among the outputs."""
    serve_kernel_port_as_window(port, path)


def no_vertical_scroll() -> None:
    """Nothing to do."""


def enable_custom_widget_manager(*args: object, **kwargs: object) -> None:
    """Nothing to do."""


def disable_custom_widget_manager() -> None:
    """Nothing to do."""


@contextlib.contextmanager
def use_tags(tags: object, append: bool = True):
    """Tags have no meaning here."""
    yield


@contextlib.contextmanager
def redirect_to_element(selector: object):
    """There is no page: the output stays in the cell."""
    yield


@contextlib.contextmanager
def temporary():
    """The output stays."""
    yield
