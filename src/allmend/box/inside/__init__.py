"""What runs inside the box, next to hostile code: standard library only, no import of allmend.

The folder is shown read-only inside as the package `inside`; the launcher is its first code to run.
"""
