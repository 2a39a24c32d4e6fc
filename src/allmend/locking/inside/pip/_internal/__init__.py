"""The real pip's modules, but for its entrance."""

import os as _os

import pip as _pip

__path__ = [_os.path.join(_folder, "_internal") for _folder in _pip.__path__]
