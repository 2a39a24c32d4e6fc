"""Models and adapters by their files: formats that can run code, templates, licences, size. Nothing is loaded."""

from __future__ import annotations

from allmend.planning.models.plans import looks_like_model, plan_model_file, plan_model_folder, plan_model_reference

__all__ = ["looks_like_model", "plan_model_file", "plan_model_folder", "plan_model_reference"]
