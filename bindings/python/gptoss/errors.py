"""One exception class for every status of gptoss.h; str() is the library's message."""

from __future__ import annotations

import errno
import os


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


def _errno_of(message: str) -> int:
    """The number of the operating system's reason, with which the library's message then ends; EIO for a file that is
    there and is not what it should be."""
    return next((number for number in errno.errorcode if message.endswith(os.strerror(number))), errno.EIO)


class FileError(GptossError, OSError):
    """A file that is missing, unreadable, truncated or malformed. Its errno is the operating system's reason, such as
    ENOENT, or EIO where the file's content is at fault."""

    status = 4

    def __init__(self, message: str) -> None:
        super().__init__(_errno_of(message), message)

    def __str__(self) -> str:
        return str(self.strerror)

    def __reduce__(self) -> tuple[type[FileError], tuple[str]]:
        return type(self), (str(self),)


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
