"""The one error tree of the project. Its branches are what the caller does.

FastDatasetsError
├── UserError        tell the user what to mend, and stop: exit 1
├── Unfinished       something is left for a later resume: exit 3
│   ├── Busy         another command is working on the run
│   └── DiskFull     nothing of a transaction is stored: make room, and try again
└── RequestRefused   give up this request, count it, and go on

It stands in the lowest room so that all three can raise and catch it.
"""


class FastDatasetsError(Exception):
    """Something went wrong that the user can be told in one or two lines."""

    exit_code = 1


class UserError(FastDatasetsError):
    """A mistake in what was asked or given: the message says what, where, and what to do."""


class Unfinished(FastDatasetsError):
    """The run stopped in good order with something left; everything bought is stored."""

    exit_code = 3


class Busy(Unfinished):
    """Another command is working on the run."""


class DiskFull(Unfinished):
    """The disk has no room for what was to be stored, and nothing of that is."""


class RequestRefused(FastDatasetsError):
    """One request cannot be answered: too long, empty, malformed. The others go on.

    code: a word for the reason, where others' requests can hardly share it.
    """

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code
