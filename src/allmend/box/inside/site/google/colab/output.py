"""Output helpers that make sense without Colab's page; those that need its JavaScript say so."""

import contextlib


def clear(wait: bool = False, output_tags: object = ()) -> None:
    """Clear the cell's output."""
    from IPython.display import clear_output

    clear_output(wait=wait)


def eval_js(script: str, ignore_result: bool = False, timeout_sec: object = None) -> None:
    """There is no page to run it in."""
    if not ignore_result:
        raise RuntimeError("google.colab.output.eval_js needs Colab's page; there is none here")


def register_callback(function_name: str, callback: object) -> None:
    """Nothing can call back without a page."""


def serve_kernel_port_as_window(
    port: int, path: str = "/", anchor_text: object = None, cache_in_notebook: bool = False
) -> None:
    """Say where a published port is."""
    print(f"Port {port} is shown outside only if it is published (--allow port:{port}): http://127.0.0.1:{port}{path}")


def serve_kernel_port_as_iframe(
    port: int, path: str = "/", width: object = "100%", height: object = 400, cache_in_notebook: bool = False
) -> None:
    """Say where a published port is."""
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
