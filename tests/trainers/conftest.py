"""Which tests of trainers are collected: those whose environment there is."""

from tests.trainers.runs import PYTHON

# `make test-trainers` makes their environment; `make test` needs no gigabyte more for them.
collect_ignore = [] if PYTHON.is_file() else ["test_axolotl.py", "test_llamafactory.py"]
