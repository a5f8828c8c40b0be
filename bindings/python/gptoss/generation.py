"""Device work that the main thread can interrupt, and the iterator over a generation."""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import threading
import weakref
from contextlib import ExitStack
from ctypes import byref, c_int, c_size_t, c_void_p
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Optional

from ._library import GenerateOptionsStruct, TokenCallback, lib
from .errors import CancelledError
from .model import token_array
from .sampler import Sampler

if TYPE_CHECKING:
    from .context import Context

AHEAD = 32  # tokens that may wait for the consumer: enough that the device does not
PROMPT_LOOKUPS = ("default", "off", "always")  # by their values
STOP_REASONS = ("none", "max_tokens", "stop_token", "closed", "context_full")


def _stop(thread: threading.Thread, context: c_void_p) -> None:
    while thread is not threading.current_thread():
        try:
            if thread.is_alive():
                lib.gptoss_context_cancel(context)
                thread.join()
            lib.gptoss_context_clear_cancel(context)  # one that came too late
            return
        except KeyboardInterrupt:
            pass  # one more: the thread must end first


def interruptible(call: Callable[[], Any], context: c_void_p) -> None:
    """Runs a call of the library on a context. Python acts on a signal only between its own instructions, so on the main
    thread the call runs in another, where KeyboardInterrupt can cancel it."""
    if threading.current_thread() is not threading.main_thread():
        call()
        return
    result: SimpleQueue[Optional[BaseException]] = SimpleQueue()

    def run() -> None:
        try:
            call()
            result.put(None)
        except BaseException as error:
            result.put(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        error = result.get()
    except BaseException:
        _stop(thread, context)
        raise
    if error is not None:
        raise error


class _Run:
    """One call of gptoss_context_generate, in a thread of its own: the device goes on while Python code uses a token,
    and the main thread stays open to KeyboardInterrupt. Refers to no Generation, so that a forgotten one is collected,
    which closes it."""

    def __init__(self, context: c_void_p, sampler: Optional[c_void_p], options: GenerateOptionsStruct, uses: ExitStack):
        self.context, self.sampler, self.options, self.uses = context, sampler, options, uses
        self.tokens: SimpleQueue[Optional[int]] = SimpleQueue()  # None at the end
        self.room: SimpleQueue[None] = SimpleQueue()  # as a semaphore, at less than half a Semaphore's cost
        for _ in range(AHEAD):
            self.room.put(None)
        self.left = threading.Event()  # the consumer takes no more
        self.wake: Optional[Callable[[], None]] = None  # an event loop that waits for a token
        self.taken = 0
        self.reason = c_int()
        self.error: Optional[BaseException] = None

    def on_token(self, _: Any, token: int) -> int:
        self._put(token)
        self.room.get()
        return self.left.is_set()

    def _put(self, token: Optional[int]) -> None:
        self.tokens.put(token)
        wake, self.wake = self.wake, None
        if wake is not None:
            wake()

    def run(self) -> None:
        start, size = c_size_t(), c_size_t()
        self.options.callback = TokenCallback(self.on_token)
        with self.uses:
            lib.gptoss_context_get_num_tokens(self.context, byref(start))
            try:
                if not self.left.is_set():
                    lib.gptoss_context_generate(self.context, self.sampler, byref(self.options), None, byref(self.reason))
            except BaseException as error:
                self.error = error
            self._put(None)
            self.left.wait()
            # What the consumer did not take was not generated.
            lib.gptoss_context_get_num_tokens(self.context, byref(size))
            if size.value > start.value + self.taken:
                lib.gptoss_context_truncate(self.context, start.value + self.taken)
        del self.options  # the callback refers to self


class Generation(Iterator[int]):
    """The tokens of Context.generate(), for `for` and for `async for`. Also a context manager of both kinds, which closes
    it. A task that is cancelled while it waits for a token closes it too."""

    def __init__(
        self,
        context: Context,
        sampler: Optional[Sampler],
        max_tokens: Optional[int],
        stop_tokens: Optional[Iterable[int]],
        prompt_lookup: str,
    ) -> None:
        if sampler is not None and not isinstance(sampler, Sampler):
            raise TypeError(f"a sampler is a Sampler, not {type(sampler).__name__}")
        if max_tokens is not None and max_tokens < 1:
            raise ValueError("max_tokens must be positive, or None")
        if prompt_lookup not in PROMPT_LOOKUPS:
            raise ValueError(f"prompt_lookup is {prompt_lookup!r}: none of {', '.join(PROMPT_LOOKUPS)}")
        options = GenerateOptionsStruct(struct_size=ctypes.sizeof(GenerateOptionsStruct), max_tokens=max_tokens or 0)
        options.prompt_lookup = PROMPT_LOOKUPS.index(prompt_lookup)
        if stop_tokens is not None:
            # An array of none at all still is an array: then nothing stops the generation but its length.
            stops = token_array([*stop_tokens, 0])
            options.stop_tokens = ctypes.cast(stops, type(options.stop_tokens))
            options.num_stop_tokens = len(stops) - 1
        with ExitStack() as uses:
            handle = uses.enter_context(context._use())
            sampling = uses.enter_context(sampler._use()) if sampler is not None else None
            run = _Run(handle, sampling, options, uses.pop_all())
        self._run: Optional[_Run] = run
        self._reason: Optional[str] = None
        self._thread = threading.Thread(target=run.run, name="gptoss generation", daemon=True)
        self._thread.start()
        _live.add(self)

    def __iter__(self) -> Generation:
        return self

    def __next__(self) -> int:
        run = self._run
        if run is None:
            raise StopIteration
        try:
            token = run.tokens.get()
        except BaseException:
            self.close()
            raise
        if token is not None:
            return self._take(run, token)
        self._finish(run)
        raise StopIteration

    def _take(self, run: _Run, token: int) -> int:
        run.taken += 1
        run.room.put(None)
        return token

    def _finish(self, run: _Run) -> None:
        run.tokens.put(None)
        self._end(run)
        if run.error is not None and not (isinstance(run.error, CancelledError) and self._reason == "closed"):
            raise run.error

    def __aiter__(self) -> Generation:
        return self

    async def __anext__(self) -> int:
        run = self._run
        if run is None:
            raise StopAsyncIteration
        try:
            token = await self._wait(run)
        except BaseException:
            await self.aclose()
            raise
        if token is not None:
            return self._take(run, token)
        self._finish(run)
        raise StopAsyncIteration

    @staticmethod
    async def _wait(run: _Run) -> Optional[int]:
        """The next token, without an event loop that stands still until it comes."""
        loop = asyncio.get_running_loop()
        while True:
            come = asyncio.Event()

            def wake() -> None:
                try:
                    loop.call_soon_threadsafe(come.set)
                except RuntimeError:
                    pass  # the loop is closed: nobody waits

            run.wake = wake
            try:
                return run.tokens.get_nowait()
            except Empty:
                await come.wait()

    async def aclose(self) -> None:
        """close() for event loops: they go on while the device ends its work. A cancellation meanwhile is raised after
        that."""
        closing = asyncio.get_running_loop().run_in_executor(None, self.close)
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await closing
            raise

    @property
    def stop_reason(self) -> Optional[str]:
        """Once it has ended: "max_tokens", "stop_token", "context_full", "closed", or "none" after an error."""
        return self._reason

    def close(self) -> None:
        """Ends the generation; the context keeps what was taken."""
        run = getattr(self, "_run", None)
        if run is not None:
            self._reason = "closed"
            self._end(run)

    def _end(self, run: _Run) -> None:
        self._run = None
        run.left.set()
        run.room.put(None)
        if self._reason is None:
            self._reason = STOP_REASONS[run.reason.value]
        _stop(self._thread, run.context)

    def __enter__(self) -> Generation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Generation:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        self.close()


_live: weakref.WeakSet[Generation] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for generation in list(_live):
        generation.close()
