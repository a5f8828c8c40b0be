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
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, NamedTuple, Optional

from ._handle import Shared
from ._library import GenerateOptionsStruct, OutputCallback, UsageStruct, lib
from .errors import CancelledError, InvalidArgumentError
from .model import token_array
from .sampler import Sampler

if TYPE_CHECKING:
    from .context import Context

AHEAD = 32  # tokens that may wait for the consumer: enough that the device does not
PROMPT_LOOKUPS = ("default", "off", "always")  # by their values
STOP_REASONS = ("none", "max_tokens", "stop_token", "closed", "context_full", "grammar_end", "stop_string")
LOGPROBS = (None, "model", "drawn")


class Output(NamedTuple):
    """A token, with what the text grew by and its log-probability: the fields of gptoss.h."""

    token: int
    text: str
    logprob: Optional[float]
    top_logprobs: list[tuple[int, float]]


class Usage(NamedTuple):
    """Tokens that a generation counted: the fields of gptoss.h."""

    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    forced_tokens: int


def usage_of(counted: UsageStruct) -> Usage:
    return Usage(*(getattr(counted, name) for name in Usage._fields))


def generate_options(
    sampler: Optional[Sampler],
    max_tokens: Optional[int],
    stop_tokens: Optional[Iterable[int]],
    stop_strings: Iterable[str],
    logprobs: Optional[str] = None,
    top_logprobs: int = 0,
    prompt_lookup: str = "default",
) -> GenerateOptionsStruct:
    """The arguments of a generation, once they are checked."""
    if sampler is not None and not isinstance(sampler, Sampler):
        raise TypeError(f"a sampler is a Sampler, not {type(sampler).__name__}")
    if max_tokens is not None and max_tokens < 1:
        raise ValueError("max_tokens must be positive, or None")
    options = GenerateOptionsStruct(struct_size=ctypes.sizeof(GenerateOptionsStruct), max_tokens=max_tokens or 0)
    if stop_tokens is not None:
        # An array of none at all still is an array: then nothing stops the generation but its length.
        stops = token_array([*stop_tokens, 0])
        options.stop_tokens = ctypes.cast(stops, type(options.stop_tokens))
        options.num_stop_tokens = len(stops) - 1
    if isinstance(stop_strings, (str, bytes)):
        raise TypeError("stop_strings are several strings, not one")
    strings = [string.encode() for string in stop_strings]
    if any(b"\0" in string for string in strings):
        raise InvalidArgumentError("a stop string holds a NUL")
    options.stop_strings = (ctypes.c_char_p * len(strings))(*strings)
    options.num_stop_strings = len(strings)
    if logprobs not in LOGPROBS:
        raise InvalidArgumentError(f'logprobs is {logprobs!r}: none of "model", "drawn" and None')
    options.logprobs = LOGPROBS.index(logprobs)
    if not 0 <= top_logprobs <= 256:
        raise InvalidArgumentError(f"top_logprobs must be in [0, 256], not {top_logprobs}")
    options.num_top_logprobs = top_logprobs
    if prompt_lookup not in PROMPT_LOOKUPS:
        raise InvalidArgumentError(f"prompt_lookup is {prompt_lookup!r}: none of {', '.join(PROMPT_LOOKUPS)}")
    options.prompt_lookup = PROMPT_LOOKUPS.index(prompt_lookup)
    return options


def stop(thread: threading.Thread, *contexts: Shared) -> None:
    """Ends the thread's call on the contexts, of which the thread may have held the last use."""
    while thread is not threading.current_thread():
        try:
            if thread.is_alive():
                for context in contexts:
                    context.call(lib.gptoss_context_cancel)
                thread.join()
            for context in contexts:
                context.call(lib.gptoss_context_clear_cancel)  # one that came too late
            return
        except KeyboardInterrupt:
            pass  # one more: the thread must end first


def interruptible(call: Callable[[], Any], context: Shared) -> None:
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
        stop(thread, context)
        raise
    if error is not None:
        raise error


class _Run:
    """One call of gptoss_context_generate, in a thread of its own: the device goes on while Python code uses a token,
    and the main thread stays open to KeyboardInterrupt. Refers to no Generation, so that a forgotten one is collected,
    which closes it."""

    def __init__(self, context: Shared, sampler: Optional[c_void_p], options: GenerateOptionsStruct, uses: ExitStack):
        self.shared, self.sampler, self.options, self.uses = context, sampler, options, uses
        self.context = context.pointer
        self.tokens: SimpleQueue[Optional[Output]] = SimpleQueue()  # None at the end
        self.usage = UsageStruct(struct_size=ctypes.sizeof(UsageStruct))
        self.room: SimpleQueue[None] = SimpleQueue()  # as a semaphore, at less than half a Semaphore's cost
        for _ in range(AHEAD):
            self.room.put(None)
        self.left = threading.Event()  # the consumer takes no more
        self.wake: Optional[Callable[[], None]] = None  # an event loop that waits for a token
        self.taken = 0
        self.reason = c_int()
        self.error: Optional[BaseException] = None

    def on_output(self, _: Any, output: Any) -> int:
        out = output[0]
        text = ctypes.string_at(out.text, out.text_size).decode("utf-8", "replace") if out.text_size else ""
        top = [(each.token, each.logprob) for each in out.top_logprobs[: out.num_top_logprobs]]
        self._put(Output(out.token, text, out.logprob if self.options.logprobs else None, top))
        self.room.get()
        return self.left.is_set()

    def _put(self, output: Optional[Output]) -> None:
        self.tokens.put(output)
        wake, self.wake = self.wake, None
        if wake is not None:
            wake()

    def run(self) -> None:
        start, size = c_size_t(), c_size_t()
        self.options.output_callback = OutputCallback(self.on_output)
        self.options.usage_out = ctypes.pointer(self.usage)
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
        stop_strings: Iterable[str],
        logprobs: Optional[str],
        top_logprobs: int,
        prompt_lookup: str,
    ) -> None:
        options = generate_options(sampler, max_tokens, stop_tokens, stop_strings, logprobs, top_logprobs, prompt_lookup)
        with ExitStack() as uses:
            shared = context._begin()
            uses.callback(shared.drop, 0, 1)
            sampling = uses.enter_context(sampler._use()) if sampler is not None else None
            run = _Run(shared, sampling, options, uses.pop_all())
        self._run: Optional[_Run] = run
        self._context = context  # whose own end would close this
        self._reason: Optional[str] = None
        self._output: Optional[Output] = None
        self._usage: Optional[Usage] = None
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

    def _take(self, run: _Run, output: Output) -> int:
        run.taken += 1
        run.room.put(None)
        self._output = output
        return output.token

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
    async def _wait(run: _Run) -> Optional[Output]:
        """The next output, without an event loop that stands still until it comes."""
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
    def output(self) -> Output:
        """Of the token that was taken last: its text and its log-probabilities too."""
        if self._output is None:
            raise ValueError("no token has been taken")
        return self._output

    @property
    def usage(self) -> Optional[Usage]:
        """Once it has ended."""
        return self._usage

    @property
    def stop_reason(self) -> Optional[str]:
        """Once it has ended: "max_tokens", "stop_token", "grammar_end", "stop_string", "context_full", "closed", or "none"
        after an error."""
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
        stop(self._thread, run.shared)
        self._usage = usage_of(run.usage)

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
