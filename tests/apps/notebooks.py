"""Notebooks that the tests serve."""

from __future__ import annotations

import json
from pathlib import Path

FORM = """#@title Settings
#@markdown How often it swings
frequency = 3 #@param {type:"slider", min:1, max:10, step:1}
name = 'a wave' #@param {type:"string"}
colour = 'blue' #@param ['blue', 'green', 'red']
style = 'solid' #@param ['solid', 'dashed'] {allow-input: true}
grid = True #@param {type:"boolean"}
day = '2026-01-31' #@param {type:"date"}
count = 100 #@param {type:"integer"}
ratio = 0.5 #@param {type:"number"}
points = [1, 2] #@param {type:"raw"}"""
SHOW = "print([frequency, name, colour, style, grid, day, count, ratio, points])"
RICH = '''from IPython.display import HTML, SVG, Markdown, display
display(HTML("""<b id=mine>bold</b><script>let said;
try { said = parent.document.title } catch (e) { said = e.name }
document.body.append(" caged: " + said);
fetch("/runs").catch(e => document.body.append(" no way out: " + e.name))</script>"""))
display(SVG("""<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><script>alert(1)</script>
<rect width="40" height="20"/></svg>"""))
display(Markdown('**strong** <img src=x onerror=alert(1)> ![p](http://track.example/x.png) [go](javascript:alert(1))'))
print('\\x1b[31mred\\x1b[0m <script>alert(1)</script>')'''
KEEP = "import os\nos.makedirs('outputs')\nopen('outputs/answer.txt', 'w').write(name)"


def write(folder: Path, name: str, *cells: str, words: str = "# Draw a wave\nPick a *shape*.") -> Path:
    """A notebook file with these code cells after a cell of words."""
    made = [{"cell_type": "markdown", "source": words, "metadata": {}}]
    made += [{"cell_type": "code", "source": c, "metadata": {}, "outputs": [], "execution_count": None} for c in cells]
    path = folder / name
    path.write_text(json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    return path
