"""Loaded by every Python inside the box. In the kernel it reports attempts on files to the record.

Code inside can evade or forge this; what is enforced never depends on it. The receipt names the source of
these rows
`interpreter`.
"""

import os
import sys


def _report() -> None:
    place = os.environ.pop("ALLMEND_RECORD", "")
    visible = tuple(os.environ.pop("ALLMEND_VISIBLE", "").split(":"))
    if not place.isdigit():
        return
    fd = int(place)
    os.set_inheritable(fd, False)
    seen: set = set()
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    changes = {"os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.truncate"}
    looks = {"os.listdir", "os.scandir", "os.chdir"}

    def tell(kind: str, path: object) -> None:
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        if not isinstance(path, str) or "__pycache__" in path or (kind, path) in seen or len(seen) > 4000:
            return
        seen.add((kind, path))
        try:
            os.write(fd, f"{kind}\n{path[:1000]}".encode("utf-8", "replace"))
        except OSError:
            pass

    def hook(event: str, args: tuple) -> None:
        if event == "open":
            path, flags = args[0], args[2]
            if isinstance(path, int) or path is None:
                return
            if isinstance(path, str) and path.startswith(visible) and ".." not in path and not flags & writing:
                return
            tell("write" if flags & writing else "read", path)
        elif event in changes:
            tell("write", args[0])
        elif event in looks:
            tell("read", args[0])
        elif event == "os.rename":
            tell("write", args[1])
        elif event in ("os.symlink", "os.link"):
            tell("link", args[0])

    sys.addaudithook(hook)


_report()

if os.environ.pop("ALLMEND_COLAB", ""):
    # Notebooks ask `"google.colab" in sys.modules` to know where they are.
    try:
        import google.colab  # noqa: F401
    except Exception:  # the notebook's own packages may hold another `google`
        pass


class _Gradio:
    """Waits for Gradio to be imported, in any Python of the box."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> object:
        """Only the one module; every other import goes on untouched."""
        if name != "gradio.blocks":
            return None
        sys.meta_path.remove(_Gradio)
        import local_links

        return local_links.patched(name, path)


sys.meta_path.insert(0, _Gradio)
