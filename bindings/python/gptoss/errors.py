"""One exception class for every status of gptoss.h; str() is the library's message."""

from __future__ import annotations


class GptossError(Exception):
    """Base of all errors that the library reports."""

    status = 11  # enum gptoss_status


class InvalidArgumentError(GptossError, ValueError):
    status = 1


class UnsupportedArgumentError(GptossError, ValueError):
    status = 2


class InvalidStateError(GptossError, RuntimeError):
    """Also: a handle that is closed, or in use by another thread."""

    status = 3


class FileError(GptossError, OSError):
    status = 4


class InsufficientMemoryError(GptossError, MemoryError):
    status = 5


class InsufficientResourcesError(GptossError, RuntimeError):
    status = 6


class UnsupportedSystemError(GptossError, RuntimeError):
    status = 7


class ContextOverflowError(GptossError, OverflowError):
    status = 8


class DeviceLostError(GptossError, RuntimeError):
    status = 9


class CancelledError(GptossError):
    status = 10


class InternalError(GptossError, RuntimeError):
    status = 11


BY_STATUS = {error.status: error for error in GptossError.__subclasses__()}
