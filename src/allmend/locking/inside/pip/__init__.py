"""pip inside a locked run: `install` answers from the lock, everything else is the real pip's."""

import os as _os
import sys as _sys

_here = _os.path.dirname(_os.path.abspath(__file__))
_others = (_os.path.join(_entry, "pip") for _entry in _sys.path if _entry)
_real = next(
    (_p for _p in _others if _p != _here and _os.path.isfile(_os.path.join(_p, "_internal", "__init__.py"))), ""
)
__path__ = [_here, _real] if _real else [_here]
__version__ = "0"


def main(args=None):
    """As pip's own."""
    from pip._internal.cli.main import main as inner

    return inner(args)
