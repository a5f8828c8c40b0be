"""How the next token is drawn."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_void_p
from typing import Any, Mapping, Optional

from ._handle import Handle
from ._library import lib
from .grammar import Grammar
from .model import token_array


class Sampler(Handle):
    """Settings, which apply in this order: bias, penalties, temperature, grammar, top-k, top-p, min-p.

    Each is an attribute that can be set: sampler.temperature = 0.7. gptoss.h says what they mean. The same seed and
    tokens give the same result.
    logit_bias: what is added to the logits of tokens, as a dict.
    """

    _exclusive = True
    _settings = {
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
        "seed": 0,
    }

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    seed: int
    logit_bias: Mapping[int, float]
    grammar: Optional[Grammar]

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
        logit_bias: Optional[Mapping[int, float]] = None,
        grammar: Optional[Grammar] = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name in self._settings}
        handle = c_void_p()
        lib.gptoss_sampler_create(byref(handle))
        self._own(handle, lib.gptoss_sampler_release)
        for name, value in given.items():
            setattr(self, name, value)
        self.logit_bias = logit_bias or {}
        self.grammar = grammar

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._settings:
            setter = getattr(lib, f"gptoss_sampler_set_{name}")
            # ctypes would wrap an integer that is out of range.
            kind = setter.argtypes[1]
            if kind is not ctypes.c_float and kind(value).value != value:
                raise OverflowError(f"{name} must be in [0, 2**{8 * ctypes.sizeof(kind)}), not {value}")
            self._call(setter, value)
        elif name == "logit_bias":
            tokens = token_array(value.keys())
            biases = (ctypes.c_float * len(tokens))(*value.values())
            self._call(lib.gptoss_sampler_set_logit_bias, len(tokens), tokens, biases)
            value = dict(value)
        elif name == "grammar":
            if value is None:
                self._call(lib.gptoss_sampler_set_grammar, None)
            elif isinstance(value, Grammar):
                with value._use() as grammar:
                    self._call(lib.gptoss_sampler_set_grammar, grammar)
            else:
                raise TypeError(f"a grammar is a Grammar, not {type(value).__name__}")
        elif not name.startswith("_"):
            raise AttributeError(f"a Sampler has no setting {name}")
        super().__setattr__(name, value)
