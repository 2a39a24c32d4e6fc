"""A notebook as a page, an HTTP API and a batch.

`notebook` is what is served, `parameters` its typed form, `runs` and `queue` what was asked for, `routes` the HTTP
surface, `form` the page's fields, `batch` rows of parameters from a table. How a notebook runs is not known here: a
`Runner` is given, and it is the verb `run`, in its box.
"""

from __future__ import annotations

from allmend.apps.notebook import NotebookApp, Runner, Task
from allmend.apps.routes import make_app

__all__ = ["NotebookApp", "Runner", "Task", "make_app"]
