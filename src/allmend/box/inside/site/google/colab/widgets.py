"""`TabBar` and `Grid`: outputs gathered side by side, as HTML that needs no page behind it."""

import base64
import contextlib
import html
import itertools

_numbers = itertools.count()


def _markup(outputs: object) -> str:
    """HTML of what IPython captured."""
    parts = []
    for text, kind in ((outputs.stdout, "out"), (outputs.stderr, "err")):
        if text:
            parts.append(f'<pre class="{kind}">{html.escape(text)}</pre>')
    for output in outputs.outputs:
        data = output.data
        if "text/html" in data:
            parts.append(data["text/html"])
            continue
        if "image/svg+xml" in data:
            parts.append(data["image/svg+xml"])
            continue
        picture = next((kind for kind in data if kind in ("image/png", "image/jpeg", "image/gif")), None)
        if picture:
            found = data[picture]
            packed = base64.b64encode(found).decode() if isinstance(found, bytes) else found.strip()
            parts.append(f'<img src="data:{picture};base64,{packed}">')
        else:
            parts.append(f"<pre>{html.escape(str(data.get('text/plain', '')))}</pre>")
    return "".join(parts)


class _Gathers:
    """Places that outputs are gathered in; the whole is shown anew after each."""

    def __init__(self, places: list) -> None:
        self._inner = dict.fromkeys(places, "")
        self._name = f"w{next(_numbers)}"
        self._shown = None

    @contextlib.contextmanager
    def _to(self, place: object, clear: bool = True):
        from IPython.utils.capture import capture_output

        if place not in self._inner:
            raise ValueError(f"there is no place {place!r}")
        outputs = None
        try:
            with capture_output() as outputs:
                yield
        finally:
            if outputs is not None:
                made = _markup(outputs)
                self._inner[place] = made if clear else self._inner[place] + made
                self._show()

    def _show(self) -> None:
        from IPython.display import HTML, display

        if self._shown is None:
            self._shown = display(HTML(self._html()), display_id=True)
        else:
            self._shown.update(HTML(self._html()))

    def clear_cell(self, *place: object) -> None:
        """Empty one place."""
        key = place[0] if len(place) == 1 else place
        if key in self._inner:
            self._inner[key] = ""
            self._show()


class TabBar(_Gathers):
    """Tabs; `with bar.output_to('name' or number):` gathers what is shown."""

    def __init__(self, tab_names: list, location: str = "top", **options: object) -> None:
        if not tab_names:
            raise ValueError("a tab bar needs a tab")
        self._names = [str(name) for name in tab_names]
        super().__init__(list(range(len(self._names))))
        self._active = 0
        self._show()

    def output_to(self, tab: object, select: bool = True, clear: bool = True):
        """Gather what is shown into a tab, by name or number."""
        place = self._names.index(tab) if isinstance(tab, str) else int(tab)
        if select:
            self._active = place
        return self._to(place, clear)

    def clear_tab(self, tab: object = None) -> None:
        """Empty a tab."""
        self.clear_cell(self._active if tab is None else self._names.index(tab) if isinstance(tab, str) else int(tab))

    def __iter__(self):
        for place in range(len(self._names)):
            with self.output_to(place, select=False):
                yield place

    def _html(self) -> str:
        name, rules, heads, bodies = self._name, [], [], []
        for place, title in enumerate(self._names):
            on = " checked" if place == self._active else ""
            rules.append(f"#{name}-{place}:checked~.{name} section:nth-child({place + 1}){{display:block}}")
            heads.append(
                f'<input type="radio" name="{name}" id="{name}-{place}"{on} style="margin:.2rem .2rem .2rem .6rem">'
                f'<label for="{name}-{place}">{html.escape(title)}</label>'
            )
            bodies.append(f"<section>{self._inner[place]}</section>")
        style = f".{name} section{{display:none;padding:.5rem}}{''.join(rules)}"
        return f'<style>{style}</style><div>{"".join(heads)}<div class="{name}">{"".join(bodies)}</div></div>'


class Grid(_Gathers):
    """A table of places; `with grid.output_to(row, column):` gathers what is shown."""

    def __init__(
        self,
        rows: int,
        columns: int,
        header_row: bool = False,
        header_column: bool = False,
        style: str = "",
        **more: object,
    ) -> None:
        self._size = (int(rows), int(columns))
        self._headers = (header_row, header_column)
        super().__init__([(row, column) for row in range(int(rows)) for column in range(int(columns))])
        self._show()

    def output_to(self, row: int, column: int, clear: bool = True):
        """Gather what is shown into a place."""
        return self._to((row, column), clear)

    def __iter__(self):
        for place in list(self._inner):
            with self._to(place):
                yield place

    def _html(self) -> str:
        rows, columns = self._size
        lines = []
        for row in range(rows):
            cells = []
            for column in range(columns):
                head = (self._headers[0] and row == 0) or (self._headers[1] and column == 0)
                tag = "th" if head else "td"
                cells.append(f'<{tag} style="border:1px solid #8884">{self._inner[row, column]}</{tag}>')
            lines.append(f"<tr>{''.join(cells)}</tr>")
        return f"<table>{''.join(lines)}</table>"
