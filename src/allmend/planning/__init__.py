"""What running a notebook, script, folder, model or adapter would do. Nothing is executed.

From cells to effects:

session       one plan in the making; reads the cells in order
observer      what is met on the way, and which family of effects hears of it
effects/      one file a family: what a call or a command does
tables/       which library calls have which effect, as data
record        effects, one for each kind, target and cell
world         the notebook's machine so far: working directory, environment, files
following     scripts, modules and requirement files of clones, one level out

Code:

evaluation/   Python as far as its values can be worked out
shell         lists, pipes, loops, heredocs, `cd`; shell_words, its words
substitution  what IPython puts into a `!` line before a shell sees it

From effects to a plan:

assemble      the plan of what a session collected
findings      combinations of effects that are worth stopping for
hosts, needs, permissions   what it would talk to, take, and have to be granted
diff          what changed between two plans
page, html, sarif   how it is shown
links, folders, clones, beside   where notebooks and the files beside them come from
models/       plans of models and adapters
"""

from __future__ import annotations

from allmend.planning.assemble import plan_notebook

__all__ = ["plan_notebook"]
