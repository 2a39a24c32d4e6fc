"""A hub of models, data, adapters and notebooks that stock Hub clients work against.

names          what repositories, references and files may be called
objects        git's names for contents, trees and commits
trees          folders as pages of entries in the database, read without reading all of them; tree_editing changes them
repositories   making, finding, moving, listing
refs, commits  branches, tags; commits that move them in one transaction
discussions    pull requests and what is said about them
inspecting     what `plan` says of what was uploaded
app, routes    the Hub's HTTP API over them
"""
