"""Tables are shown as pandas shows them."""


class DataTable:
    """Shows a data frame plainly."""

    max_rows = 20000
    max_columns = 20

    def __init__(self, dataframe: object, **options: object) -> None:
        self.dataframe = dataframe

    def _repr_html_(self) -> object:
        return self.dataframe._repr_html_()

    def __repr__(self) -> str:
        return repr(self.dataframe)


def enable_dataframe_formatter() -> None:
    """Nothing to do."""


def disable_dataframe_formatter() -> None:
    """Nothing to do."""


def load_ipython_extension(ipython: object) -> None:
    """Nothing to do."""


def unload_ipython_extension(ipython: object) -> None:
    """Nothing to do."""
