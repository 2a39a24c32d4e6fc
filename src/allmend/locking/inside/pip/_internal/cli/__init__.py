"""The real pip's command line, but for its entrance."""

import os as _os

import pip as _pip

__path__ = [_os.path.join(_folder, "_internal", "cli") for _folder in _pip.__path__]
