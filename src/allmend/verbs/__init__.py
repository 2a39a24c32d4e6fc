"""Everything a person can do. One file a verb: its settings class and its function.

The command line, the HTTP body and the web form are made from the settings class; a test keeps the
function's signature equal to it.
"""
