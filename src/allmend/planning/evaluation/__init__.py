"""Python as far as its values can be worked out without running it.

What is known:

values        what can be known of a variable: Python's own values, unknowns, alternatives, symbols of libraries
holes         the unknown pieces inside strings
scope         names, and a journal so that both ways of a branch are followed and joined

Following (`python` joins it by tables, a function for each kind of node):

python        statements in order, expressions, the budget
expressions, attributes, operators, containers   values of expressions
invoking      calls; functions, those of the notebook's own; callbacks, those that are handed over
pure          calls whose result can be worked out
assignments, definitions, blocks   statements; narrowing, what a test says about a name

Around it:

calls         a call as the tables see it, and the source text of a node
names         names that mean something without an import
reasons       why a result is not known, in words
salvage       Python that is broken or old
"""
