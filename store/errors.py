"""The one error tree of the project. Its branches are what the caller does.

FastDatasetsError
├── UserError        show the user what to change, and stop: exit 1
├── Unfinished       something is left for a later resume: exit 3
│   ├── Busy         another command is working on the run
│   │   └── StoreHeld    another process has the store's file open
│   └── DiskFull     nothing of a transaction is stored: free disk space, try again
├── RequestRefused   give up this request, count it, and go on
├── EngineDied       start the engine again; requests in flight have no answer
└── SqlError         a statement failed: a defect of ours, or a source that cannot be read

It is in store, which backends and fastdatasets import, so that all can raise and catch it.
"""


class FastDatasetsError(Exception):
    """Something went wrong that can be said in one or two lines."""

    exit_code = 1


class UserError(FastDatasetsError):
    """A mistake of the user: the message says what is wrong, where, and what to do."""


class Unfinished(FastDatasetsError):
    """The run stopped in order with something left; every answer received is stored."""

    exit_code = 3


class Busy(Unfinished):
    """Another command is working on the run."""


class StoreHeld(Busy):
    """Another process has the file of a store open.

    holder: its name and process id, as DuckDB reports them.
    """

    def __init__(self, holder: str) -> None:
        super().__init__(f"the store is open in {holder}: try again when that is done")
        self.holder = holder


class DiskFull(Unfinished):
    """The disk is full: nothing of the transaction is stored."""


class RequestRefused(FastDatasetsError):
    """One request cannot be answered: too long, empty, malformed. The others go on.

    code: set for reasons that depend on this request alone.
    """

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class EngineDied(FastDatasetsError):
    """An engine ended that had been loaded; requests in flight have no answer."""

    def __init__(self, message: str, *, out_of_memory: bool) -> None:
        super().__init__(message)
        self.out_of_memory = out_of_memory


class SqlError(FastDatasetsError):
    """A statement failed, but not for a full disk; detail: DuckDB's whole message."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"the store: {detail.splitlines()[0]}")
        self.detail = detail


class NoSuchTable(SqlError):
    """A statement names a table or view that does not exist."""
