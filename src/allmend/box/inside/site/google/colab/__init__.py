"""A stand-in for the parts of google.colab that notebooks use, answered by the box instead of by Colab."""

from google.colab import auth, data_table, drive, files, output, runtime, userdata

__all__ = ["auth", "data_table", "drive", "files", "output", "runtime", "userdata"]
