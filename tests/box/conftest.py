"""The fixtures of box tests; what they are made of stands in `boxed_jobs`."""

from boxed_jobs import jobs, level_a_can_be_tested

__all__ = ["jobs", "level_a_can_be_tested"]
