"""`python -m fastdatasets`."""

from fastdatasets.cli.app import main

main()
