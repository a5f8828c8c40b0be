"""A timeline of tokens over a model."""

from __future__ import annotations

import ctypes
import weakref
from contextlib import nullcontext
from ctypes import byref, c_float, c_size_t, c_uint32, c_void_p
from typing import Any, Callable, Iterable, NamedTuple, Optional, Union, cast, overload

from ._handle import Handle
from ._library import ContextStatsStruct, KernelTimeStruct, LogprobStruct, lib
from .adapter import Adapter
from .errors import ContextOverflowError
from .generation import Generation, interruptible
from .model import Model, single_token, token_array
from .sampler import Sampler
from .taps import Tapped, Taps, tap_options


def _count(value: int, name: str) -> int:
    if value < 0:
        raise ValueError(f"{name} must not be negative")
    return value


class ContextStats(NamedTuple):
    """What a context holds, and what a token costs it: the fields of gptoss.h."""

    cache_bytes: int
    activation_bytes: int
    cache_bytes_per_token: int
    step_dispatches: int
    step_barriers: int
    prompt_tokens_computed: int
    decode_steps: int


class KernelTime(NamedTuple):
    """What all dispatches of a kernel took together."""

    name: str
    microseconds: float
    dispatches: int


class Context(Handle):
    """One timeline of tokens; one thread at a time, except for cancel().

    context_length: the most tokens it can hold; 0 for the model's maximum. max_batch_tokens: the most tokens of a
    prompt that are computed at once; 0 for the default.
    """

    _exclusive = True
    _generation: Optional[weakref.ref[Generation]] = None
    _tap: Any = None  # what the library calls lives as long as the tap

    def __init__(self, model: Model, context_length: int = 0, max_batch_tokens: int = 0) -> None:
        if not isinstance(model, Model):
            raise TypeError(f"a Context is made from a Model, not from {type(model).__name__}")
        handle = c_void_p()
        length, batch = _count(context_length, "context_length"), _count(max_batch_tokens, "max_batch_tokens")
        model._call(lib.gptoss_context_create, length, batch, byref(handle))
        self._own(handle, lib.gptoss_context_release)
        self._model, self._log = model._shared, model._log
        self._vocabulary_size = model.info.vocabulary_size

    @property
    def num_tokens(self) -> int:
        return self._get(lib.gptoss_context_get_num_tokens, c_size_t)

    @property
    def max_tokens(self) -> int:
        return self._get(lib.gptoss_context_get_max_tokens, c_size_t)

    @property
    def tokens(self) -> list[int]:
        with self._use() as handle:
            size = c_size_t()
            lib.gptoss_context_get_num_tokens(handle, byref(size))
            tokens = (c_uint32 * size.value)()
            lib.gptoss_context_get_tokens(handle, tokens, size.value, byref(size))
            return tokens[:]

    def append(self, what: Union[str, bytes, int, Iterable[int]]) -> None:
        """Appends text, in which special tokens count as such, a token, or several; all of it or, on an error, nothing."""
        if isinstance(what, (str, bytes, bytearray)):
            data = what.encode() if isinstance(what, str) else bytes(what)
            self._call(lib.gptoss_context_append_chars, data, len(data), None)
        else:
            token = single_token(what)
            tokens = token_array(cast("Iterable[int]", what) if token is None else [token])
            self._call(lib.gptoss_context_append_tokens, len(tokens), tokens)

    def reset(self) -> None:
        """Empties the context. What was computed stays cached, for tokens that come again."""
        self._call(lib.gptoss_context_reset)

    def truncate(self, num_tokens: int) -> None:
        """Keeps the first num_tokens tokens."""
        self._call(lib.gptoss_context_truncate, _count(num_tokens, "num_tokens"))

    def set_adapter(self, adapter: Optional[Adapter], scale: float = 1.0) -> None:
        """From now on the context computes with the adapter, multiplied by scale; None takes it away.

        The tokens stay, and are computed again when that is needed. A fork begins with the same adapter, and a state is
        restored only where the adapter and the scale are those that it was saved with.
        """
        if adapter is None:
            self._call(lib.gptoss_context_set_adapter, None, scale)
        elif isinstance(adapter, Adapter):
            with adapter._use() as handle:
                self._call(lib.gptoss_context_set_adapter, handle, scale)
        else:
            raise TypeError(f"an adapter is an Adapter, not {type(adapter).__name__}")

    def process(self) -> None:
        """Computes what was appended. Sampling does it too; this does it ahead of time."""
        self._device_call(lib.gptoss_context_process)

    def logits(self) -> memoryview:
        """The float32 logits of the token that would follow; numpy.asarray() of it copies nothing."""
        logits, size = (c_float * self._vocabulary_size)(), c_size_t()
        self._device_call(lib.gptoss_context_get_logits, logits, len(logits), byref(size))
        return memoryview(logits).cast("B").cast("f")

    @overload
    def sample(self, *, temperature: float = ..., seed: int = ...) -> int: ...
    @overload
    def sample(self, max_output_tokens: int, *, temperature: float = ..., seed: int = ...) -> list[int]: ...
    def sample(
        self, max_output_tokens: Optional[int] = None, *, temperature: float = 1.0, seed: int = 0
    ) -> Union[int, list[int]]:
        """Samples tokens and appends them; fewer than asked for when the context is full.

        Without a count: one token, which is returned and not appended, for loops that append what they sampled.
        """
        one = max_output_tokens is None
        count = 1 if max_output_tokens is None else _count(max_output_tokens, "max_output_tokens")
        if not 0 <= seed < 2**64:
            raise OverflowError("seed must be in [0, 2**64)")
        tokens, size = (c_uint32 * count)(), c_size_t()
        arguments = (temperature, seed, count, tokens, byref(size))
        if not one:
            self._device_call(lib.gptoss_context_sample, *arguments)
            return tokens[: size.value]
        with self._use() as handle:
            before = c_size_t()
            lib.gptoss_context_get_num_tokens(handle, byref(before))
            lib.gptoss_context_sample(handle, *arguments)
            lib.gptoss_context_truncate(handle, before)
        if size.value == 0:
            raise ContextOverflowError("the context is full")
        return tokens[0]

    def generate(
        self,
        sampler: Optional[Sampler] = None,
        *,
        max_tokens: Optional[int] = None,
        stop_tokens: Optional[Iterable[int]] = None,
        stop_strings: Iterable[str] = (),
        logprobs: Optional[str] = None,
        top_logprobs: int = 0,
        prompt_lookup: str = "default",
    ) -> Generation:
        """An iterator over tokens as they are generated, each of which is appended; the most likely ones without a
        sampler. A stop token is the last; by default <|return|>, <|call|> and <|endoftext|> are. prompt_lookup:
        "default", "off" or "always"; see gptoss_prompt_lookup in gptoss.h.

        Its `output` tells more of the token that came last: the text that it added, which a stop string ends and is no
        part of, and log-probabilities. logprobs: "model" for those of the model's own distribution, "drawn" for those
        after bias, penalties, temperature, grammar and filters. top_logprobs: how many of the likeliest tokens.

        Closing the iterator ends the generation, and the context then holds the tokens that were taken from it. Until
        it has ended, the context is in use.
        """
        generation = Generation(self, sampler, max_tokens, stop_tokens, stop_strings, logprobs, top_logprobs, prompt_lookup)
        self._generation = weakref.ref(generation)
        return generation

    def logprobs(
        self, first: int, num_tokens: int, num_top: int = 0
    ) -> tuple[list[float], list[list[tuple[int, float]]]]:
        """Log-probabilities of num_tokens tokens from number `first` on, each after those before it, and the num_top
        likeliest tokens in the place of each. The tokens are computed again."""
        first, count, top = _count(first, "first"), _count(num_tokens, "num_tokens"), _count(num_top, "num_top")
        if first + count > self.num_tokens:
            count = 0 if first > self.num_tokens else self.num_tokens - first + 1  # refused by the library
        values, tops = (c_float * count)(), (LogprobStruct * (count * top))()
        self._device_call(lib.gptoss_context_get_logprobs, first, count, top, values, tops)
        rows = [[(each.token, each.logprob) for each in tops[i * top : (i + 1) * top]] for i in range(count)]
        return list(values), rows

    def tap(
        self,
        *kinds: str,
        layers: Optional[Iterable[int]] = None,
        positions: Optional[Iterable[int]] = None,
        first_position: int = 0,
        on_tap: Optional[Callable[[Tapped], object]] = None,
    ) -> Taps:
        """From now on, calls that compute hand over what is wanted of each token, also of those that are computed already.

        kinds: "embedding", "hidden", "final", "router", "experts", "attention"; see gptoss_tap_kind in gptoss.h. layers,
        positions: those that are wanted, else all; first_position: none before it. Without on_tap, the result collects
        them; with it, on_tap gets each, and what it raises comes out of the call. A context has one tap, and a new one
        takes its place; the result's close(), or the end of `with`, removes it.
        """
        taps = Taps(self, on_tap)
        options = tap_options(taps, kinds, layers, positions, first_position)
        self._call(lib.gptoss_context_set_tap, byref(options))
        self._tap = taps, options
        return taps

    def _remove_tap(self, taps: Taps) -> None:
        if self._tap is not None and self._tap[0] is taps and not self.closed:
            self._call(lib.gptoss_context_set_tap, None)
            self._tap = None

    @property
    def stats(self) -> ContextStats:
        stats = ContextStatsStruct(struct_size=ctypes.sizeof(ContextStatsStruct))
        self._call(lib.gptoss_context_get_stats, byref(stats))
        return ContextStats(*(getattr(stats, name) for name in ContextStats._fields))

    def profile(self, num_tokens: int = 1, sampler: Optional[Sampler] = None) -> list[KernelTime]:
        """What each kernel takes to compute the last tokens again in one batch and to draw a token, greedily without a
        sampler; nothing if the device has no clock."""
        size, count = c_size_t(), 64
        with sampler._use() if sampler is not None else nullcontext() as settings:
            while True:
                times = (KernelTimeStruct * count)()
                self._call(lib.gptoss_context_profile, _count(num_tokens, "num_tokens"), settings, times, count, byref(size))
                if size.value <= count:
                    break
                count = size.value
        return [KernelTime(time.name.decode(), time.microseconds, time.dispatches) for time in times[: size.value]]

    def cancel(self) -> None:
        """Makes the call that runs on this context, in another thread, raise CancelledError soon; or the next one, if none
        runs."""
        self._from_any_thread(lib.gptoss_context_cancel)

    def clear_cancel(self) -> None:
        """Takes back a cancel() that came too late for the call that it was meant to stop."""
        self._from_any_thread(lib.gptoss_context_clear_cancel)

    def _from_any_thread(self, function: Any) -> None:
        shared = self._shared
        if shared is not None:
            shared.call(function)

    def fork(self) -> Context:
        """A new context that begins as this one and shares what is computed; copy.copy() gives the same one."""
        fork = type(self).__new__(type(self))
        handle = c_void_p()
        self._call(lib.gptoss_context_fork, byref(handle))
        fork._own(handle, lib.gptoss_context_release)
        fork._model, fork._log, fork._vocabulary_size = self._model, self._log, self._vocabulary_size
        return fork

    def save(self) -> bytes:
        """The context as bytes, with all that is computed, for restore()."""
        with self._use() as handle:
            size = c_size_t()
            lib.gptoss_context_save(handle, None, 0, byref(size))
            state = ctypes.create_string_buffer(size.value)
            lib.gptoss_context_save(handle, state, size.value, byref(size))
            return state.raw

    def restore(self, state: Union[bytes, bytearray, memoryview]) -> None:
        """Makes this context what the saved one was, of the same model; it stays as it is if that fails."""
        data = bytes(state)
        self._call(lib.gptoss_context_restore, data, len(data))

    def close(self) -> None:
        generation = self._generation() if self._generation is not None else None
        if generation is not None:
            generation.close()
        super().close()

    def _device_call(self, function: Any, *arguments: Any) -> None:
        shared = self._begin()
        try:
            interruptible(lambda: function(shared.pointer, *arguments), shared)
        finally:
            shared.drop(0, 1)
