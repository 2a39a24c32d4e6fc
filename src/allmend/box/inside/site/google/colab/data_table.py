"""Tables that can be sorted, searched and leafed through, as HTML that needs no page behind it."""

import json

_PAGE = """<div id="t"><input placeholder="Search" aria-label="Search"> <span></span>
<button>Back</button> <button>Next</button><table><thead></thead><tbody></tbody></table></div><script>
{const {columns, rows, size} = %s; let from = 0, order = null, found = rows;
const root = document.currentScript.previousElementSibling, one = (s) => root.querySelector(s);
const [back, next] = root.querySelectorAll("button");
const row = (cells, tag) => { const line = document.createElement("tr");
for (const cell of cells) { const made = document.createElement(tag);
made.textContent = cell ?? ""; line.append(made); } return line; };
const show = () => { one("tbody").replaceChildren(...found.slice(from, from + size).map((cells) => row(cells, "td")));
one("span").textContent = `${found.length ? from + 1 : 0} to ${Math.min(from + size, found.length)} of ${found.length}`;
back.disabled = from === 0; next.disabled = from + size >= found.length; };
const head = row(columns, "th"); one("thead").append(head);
[...head.children].forEach((cell, n) => { cell.style.cursor = "pointer"; cell.onclick = () => {
order = order === n ? -n - 1 : n; const at = order < 0 ? -order - 1 : order;
found = [...found].sort((a, b) =>
(a[at] > b[at] ? 1 : a[at] < b[at] ? -1 : 0) * (order < 0 ? -1 : 1)); from = 0; show(); }; });
one("input").oninput = (e) => { const word = e.target.value.toLowerCase();
found = rows.filter((cells) => cells.some((cell) => String(cell).toLowerCase().includes(word))); from = 0; show(); };
back.onclick = () => { from = Math.max(0, from - size); show(); };
next.onclick = () => { from += size; show(); }; show();}
</script>"""


def _plain(value: object) -> object:
    """A cell as JSON: numbers stay numbers, so that they sort as such."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int) or (isinstance(value, float) and value == value and abs(value) != float("inf")):
        return value
    item = getattr(value, "item", None)
    if callable(item):
        try:
            found = item()
        except Exception:
            return str(value)
        return str(value) if isinstance(found, (bytes, complex)) or found is value else _plain(found)
    return str(value)


class DataTable:
    """Shows a data frame in pages."""

    max_rows = 20000
    max_columns = 20

    def __init__(
        self,
        dataframe: object,
        include_index: bool = True,
        num_rows_per_page: int = 25,
        max_rows: object = None,
        max_columns: object = None,
        min_width: object = None,
    ) -> None:
        self.dataframe = dataframe
        self.include_index = include_index
        self.num_rows_per_page = num_rows_per_page
        self.rows, self.columns = max_rows or self.max_rows, max_columns or self.max_columns

    @classmethod
    def formatter(cls) -> object:
        """What IPython calls for a data frame."""
        return lambda dataframe: cls(dataframe)._repr_html_()

    def _repr_html_(self) -> str:
        frame = self.dataframe.iloc[: self.rows, : self.columns]
        if self.include_index:
            frame = frame.reset_index()
        columns = [" / ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in frame.columns]
        rows = [[_plain(value) for value in row] for row in frame.itertuples(index=False, name=None)]
        text = json.dumps({"columns": columns, "rows": rows, "size": self.num_rows_per_page})
        return _PAGE % text.replace("<", "\\u003c")

    def __repr__(self) -> str:
        return repr(self.dataframe)


def _formatter() -> object:
    from IPython import get_ipython

    return get_ipython().display_formatter.formatters["text/html"]


def enable_dataframe_formatter() -> None:
    """Show every data frame this way from now on."""
    import pandas

    _formatter().for_type(pandas.DataFrame, DataTable.formatter())


def disable_dataframe_formatter() -> None:
    """Show data frames as pandas does."""
    import pandas

    _formatter().type_printers.pop(pandas.DataFrame, None)


def load_ipython_extension(ipython: object) -> None:
    """`%load_ext google.colab.data_table`."""
    enable_dataframe_formatter()


def unload_ipython_extension(ipython: object) -> None:
    """`%unload_ext google.colab.data_table`."""
    disable_dataframe_formatter()
