"""Exceptions and warnings: each also derives from the built-in class a caller would expect."""

from __future__ import annotations


class CrispyxError(Exception):
    """Base of every error crispyx raises on purpose."""


class InputError(CrispyxError, ValueError):
    """A value, file or argument that cannot be used; the message says where and what to do."""


class InputTypeError(CrispyxError, TypeError):
    """An argument of a kind that is not accepted."""


class MissingColumnError(CrispyxError, KeyError):
    """An obs or var column that the file does not have."""

    def __str__(self) -> str:
        return str(self.args[0])


class MissingFileError(CrispyxError, FileNotFoundError):
    """A file that is not there."""


class OutputExistsError(CrispyxError, FileExistsError):
    """A file of someone else's stands where the output would go."""


class OutputBusyError(CrispyxError, RuntimeError):
    """Another process is writing the same output."""


class CheckpointError(CrispyxError, ValueError):
    """An interrupted run that cannot be continued with what was given."""


class MemoryBudgetError(CrispyxError, MemoryError):
    """The memory budget is below what the smallest unit of work needs."""


class DiskSpaceError(CrispyxError, OSError):
    """Not enough free space for the output."""


class WorkerError(CrispyxError, RuntimeError):
    """A worker, or the scheduler of the workers, was lost once too often."""


class MissingPackageError(CrispyxError, ImportError):
    """An optional package that is not installed."""


class CrispyxWarning(UserWarning):
    """Something the user should know and may want to act on; the numbers are still defined."""
