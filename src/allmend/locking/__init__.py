"""An exact version and digest for all that a notebook installs or fetches, and a run held to it."""
