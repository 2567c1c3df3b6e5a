"""`python -m fastdatasets`."""

from fastdatasets.cli import main

main()
