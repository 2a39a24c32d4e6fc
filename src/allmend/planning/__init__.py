"""What running a notebook, script, folder, model or adapter would do. Nothing is executed."""

from __future__ import annotations

from allmend.planning.assemble import plan_notebook

__all__ = ["plan_notebook"]
