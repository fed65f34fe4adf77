"""`python -m ae_search` is the command `ae-search`."""

from ae_search.cli import main

main()
