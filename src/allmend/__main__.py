"""`python -m allmend`."""

from allmend.cli import main

main()
