"""Owning a handle of the library, and refusing what would be undefined behaviour in C."""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import contextmanager
from ctypes import c_void_p
from typing import Any, Callable, Iterator, Optional, TypeVar

from .errors import InvalidStateError

H = TypeVar("H", bound="Handle")


class Shared:
    """A handle, shared by all copies of one Python object, with the calls that are running on it."""

    def __init__(self, pointer: c_void_p, release: Callable[[c_void_p], None]) -> None:
        self.pointer = pointer
        self.release = release
        self.lock = threading.Lock()
        self.owners = 1
        self.users = 0
        _all_shared.add(self)

    def drop(self, owners: int, users: int) -> None:
        with self.lock:
            self.owners -= owners
            self.users -= users
            last = self.owners == 0 and self.users == 0
        if last:
            self.release(self.pointer)

    def call(self, function: Callable[[c_void_p], Any]) -> None:
        """From any thread, whatever runs on the handle; nothing happens once it is released."""
        with self.lock:
            if self.owners or self.users:
                function(self.pointer)


_all_shared: weakref.WeakSet[Shared] = weakref.WeakSet()


def _renew_locks() -> None:
    """In a forked process, where the threads that held locks do not exist."""
    for shared in _all_shared:
        shared.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


class Handle:
    """Base of Model, Tokenizer, Context, Sampler and HarmonyParser."""

    _exclusive = False  # one thread at a time
    _shared: Optional[Shared] = None

    def _own(self, pointer: c_void_p, release: Callable[[c_void_p], None]) -> None:
        self._shared = Shared(pointer, release)

    def _begin(self) -> Shared:
        """Of every call on the handle; its result's drop(0, 1) ends the call. A close meanwhile takes effect then."""
        shared = self._shared
        if shared is None:
            raise InvalidStateError(f"the {type(self).__name__} is closed")
        with shared.lock:
            if self._shared is None:
                raise InvalidStateError(f"the {type(self).__name__} is closed")
            if self._exclusive and shared.users:
                raise InvalidStateError(
                    f"the {type(self).__name__} is in use by another thread, or by a generation that is not closed"
                )
            shared.users += 1
        return shared

    def _call(self, function: Callable[..., Any], *arguments: Any) -> None:
        shared = self._begin()
        try:
            function(shared.pointer, *arguments)
        finally:
            shared.drop(0, 1)

    @contextmanager
    def _use(self) -> Iterator[c_void_p]:
        shared = self._begin()
        try:
            yield shared.pointer
        finally:
            shared.drop(0, 1)

    def _get(self, function: Callable[..., Any], out: Any) -> int:
        """What a function(handle, &out) stores."""
        value = out()
        self._call(function, value)
        return int(value.value)

    def close(self) -> None:
        """Gives the handle back; what uses it later raises InvalidStateError. Closing twice is fine."""
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.drop(1, 0)

    @property
    def closed(self) -> bool:
        return self._shared is None

    def __copy__(self: H) -> H:
        """Another owner of the same handle."""
        with self._use():
            copy = type(self).__new__(type(self))
            copy.__dict__.update(self.__dict__)
            assert copy._shared is not None
            with copy._shared.lock:
                copy._shared.owners += 1
            return copy

    def __reduce_ex__(self, _: Any) -> Any:
        raise TypeError(
            f"a {type(self).__name__} cannot be pickled or sent to another process: it is memory of this one and of the "
            "device. Send what it is made from, such as the path of the model or the bytes of Context.save()."
        )

    def __enter__(self: H) -> H:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
