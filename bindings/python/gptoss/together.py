"""Generations in several contexts at once, for one thread."""

from __future__ import annotations

import ctypes
import threading
from contextlib import ExitStack
from ctypes import byref, c_size_t, c_void_p
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any, Callable, Iterable, NamedTuple, Optional

from ._library import GenerationStruct, TokenCallback, UsageStruct, lib
from .context import Context
from .errors import BY_STATUS, GptossError
from .generation import STOP_REASONS, Usage, generate_options, stop, usage_of
from .sampler import Sampler

REASONS = [reason.replace("closed", "callback") for reason in STOP_REASONS]


@dataclass
class GenerateRequest:
    """One of the generations of generate_together(). The context is another one in each; the others are as in
    Context.generate(). on_token gets each token on the calling thread, and ends the generation with a true result."""

    context: Context
    sampler: Optional[Sampler] = None
    max_tokens: Optional[int] = None
    stop_tokens: Optional[Iterable[int]] = None
    stop_strings: Iterable[str] = ()
    on_token: Optional[Callable[[int], Any]] = None


class Generated(NamedTuple):
    """What came of a GenerateRequest."""

    tokens: list[int]  # that were generated, also before an error: its context holds them
    stop_reason: str  # as Generation.stop_reason; "callback" after a true result of on_token
    usage: Usage
    error: Optional[Exception]  # the library's, or what on_token raised


def generate_together(requests: Iterable[GenerateRequest]) -> list[Generated]:
    """Generates in several contexts of one model at once, which takes little longer than for one of them: together they
    get several times the tokens a second. Returns once all have ended, with what came of each. One that fails ends alone;
    what keeps all of them from running, such as a context that is there twice, is raised. A KeyboardInterrupt ends them
    all, and the contexts keep what was generated."""
    requests = list(requests)
    for request in requests:
        if not isinstance(request, GenerateRequest):
            raise TypeError(f"generate_together() takes GenerateRequests, not {type(request).__name__}")
        if not isinstance(request.context, Context):
            raise TypeError(f"a GenerateRequest is made of a Context, not of {type(request.context).__name__}")
        if request.context._model is not requests[0].context._model:
            raise ValueError("all contexts must be of one model")
    if len({id(request.context._shared) for request in requests if not request.context.closed}) < len(requests):
        raise ValueError("each context may be there once, and none may be closed")
    if not requests:
        return []
    with ExitStack() as uses:
        outcomes = _Together(requests, uses).run()
    return outcomes


class _Together:
    """One call of gptoss_generate_together, in a thread of its own, so that the calling one stays open to
    KeyboardInterrupt. Tokens that have a callback are handed over to the calling thread."""

    def __init__(self, requests: list[GenerateRequest], uses: ExitStack) -> None:
        self.requests = requests
        self.options = [generate_options(r.sampler, r.max_tokens, r.stop_tokens, r.stop_strings) for r in requests]
        self.shared = []
        for request in requests:
            self.shared.append(request.context._begin())
            uses.callback(self.shared[-1].drop, 0, 1)
        # A sampler may be that of several.
        used = {id(request.sampler): request.sampler for request in requests if request.sampler is not None}
        samplers: dict[int, c_void_p] = {key: uses.enter_context(sampler._use()) for key, sampler in used.items()}
        self.entries = (GenerationStruct * len(requests))()
        self.usages = [UsageStruct(struct_size=ctypes.sizeof(UsageStruct)) for _ in requests]
        for i, (request, options, entry) in enumerate(zip(requests, self.options, self.entries)):
            if request.on_token is not None:
                options.callback = TokenCallback(partial(self._hand_over, i))
            options.usage_out = ctypes.pointer(self.usages[i])
            entry.struct_size = ctypes.sizeof(GenerationStruct)
            entry.context, entry.sampler = self.shared[i].pointer, samplers.get(id(request.sampler))
            entry.options = ctypes.pointer(options)
        self.tokens: SimpleQueue[Optional[tuple[int, int]]] = SimpleQueue()  # (request, token); None at the end
        self.answers: SimpleQueue[bool] = SimpleQueue()  # whether to stop
        self.left = False  # the calling thread takes no more
        self.raised: dict[int, Exception] = {}  # by callbacks
        self.error: Optional[BaseException] = None

    def _hand_over(self, request: int, _: Any, token: int) -> bool:
        if self.left:
            return True
        self.tokens.put((request, token))
        return self.answers.get()

    def _call(self) -> None:
        try:
            lib.gptoss_generate_together(self.entries, len(self.entries))
        except BaseException as error:
            self.error = error
        self.tokens.put(None)

    def run(self) -> list[Generated]:
        thread = threading.Thread(target=self._call, name="gptoss generations", daemon=True)
        thread.start()
        try:
            while (handed := self.tokens.get()) is not None:
                self.answers.put(self._call_back(*handed))
        finally:
            self.left = True
            self.answers.put(True)  # of a token that waits
            stop(thread, *self.shared)
            for options in self.options:
                options.callback = TokenCallback(0)  # NULL: what was there refers to self
        if self.error is not None and not isinstance(self.error, GptossError):
            raise self.error
        return [self._outcome(i) for i in range(len(self.requests))]

    def _call_back(self, request: int, token: int) -> bool:
        on_token = self.requests[request].on_token
        assert on_token is not None
        try:
            return bool(on_token(token))
        except Exception as error:
            self.raised[request] = error
            return True

    def _outcome(self, i: int) -> Generated:
        entry, size = self.entries[i], c_size_t()
        lib.gptoss_context_get_num_tokens(self.shared[i].pointer, byref(size))
        tokens = (ctypes.c_uint32 * size.value)()
        lib.gptoss_context_get_tokens(self.shared[i].pointer, tokens, size.value, byref(size))
        error: Optional[Exception] = self.raised.get(i)
        if error is None and entry.status:
            kind = BY_STATUS.get(entry.status, GptossError)
            # The library's message is about the first that failed; most often, others of that status failed alike.
            said = self.error if type(self.error) is kind else lib.gptoss_status_string(entry.status).decode()
            error = kind(str(said))
        generated = tokens[size.value - entry.num_tokens :]
        return Generated(generated, REASONS[entry.stop_reason], usage_of(self.usages[i]), error)
