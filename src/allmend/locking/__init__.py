"""An exact version and digest for all that a notebook installs or fetches, and a run held to it.

Making a lock:

make       from a plan to a lock; `asks` sorts what the plan says by how it is locked
gather     all Python requirements as one question; `lines` reads them, `packages` resolves them, `build` makes wheels
clones, hub, fetch, system   commits of repositories, files of a hub, files and pages, apt packages
forms      the lock as TOML, as metadata of the notebook, and as other tools read it
check      a lock against its notebook, another lock, and what is upstream now

A run held to it:

held        what its box is made from; `environment` is the folder of packages
upstream    the outside world in the cache's place; `git_server` serves clones, `certificates` are its authority
store       what was fetched, by digest; `restore` brings it there again
outputs     whether two executed notebooks came to the same
"""
