"""What a store of cases refuses.

    StoreError
    ├── NoStore          there is none at this place
    ├── NotReady         it must be opened for writing once before it can be read
    ├── CorruptStore     the file is damaged, foreign, or of another format
    ├── StoreBusy        another process has kept writing
    ├── ReadOnlyStore    this store was opened for reading only
    ├── InvalidCase      what was given cannot be kept
    ├── CaseNotFound     no such case, or it was purged
    ├── VersionConflict  the case has changed since it was read
    ├── DuplicateCase    another case says exactly this
    └── SnapshotError    no such snapshot, or its name is taken

Every message is a sentence for the user that ends with what to do.
"""


class StoreError(Exception):
    pass


class NoStore(StoreError):
    pass


class NotReady(StoreError):
    pass


class CorruptStore(StoreError):
    pass


class StoreBusy(StoreError):
    pass


class ReadOnlyStore(StoreError):
    pass


class InvalidCase(StoreError):
    pass


class CaseNotFound(StoreError):
    pass


class VersionConflict(StoreError):
    pass


class DuplicateCase(StoreError):
    pass


class SnapshotError(StoreError):
    pass
