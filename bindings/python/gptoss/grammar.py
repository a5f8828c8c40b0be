"""Which texts an answer may be."""

from __future__ import annotations

import json
from ctypes import byref, c_void_p
from typing import Any, Optional, Union

from ._handle import Handle
from ._library import lib
from .model import Model, Tokenizer

JSON = Union[str, bytes, dict[str, Any], bool]


def _json(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    return value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()


class Grammar(Handle):
    """Set as Sampler.grammar, and shared by any number of samplers and threads.

    of: the model that is to follow it, or its tokenizer. Exactly one of the others is given:
    json_schema: a JSON schema, as a dict or as JSON. regex: a regular expression for the whole text. gbnf: a grammar as
    llama.cpp writes it. harmony: a dict with "tools", "tool_choice", "response_format" and "reasoning", for the
    assistant's whole turn. gptoss.h says more of each.
    """

    def __init__(
        self,
        of: Union[Model, Tokenizer],
        *,
        json_schema: Optional[JSON] = None,
        regex: Optional[str] = None,
        gbnf: Optional[str] = None,
        harmony: Optional[JSON] = None,
    ) -> None:
        given = {"json_schema": json_schema, "regex": regex, "gbnf": gbnf, "harmony": harmony}
        kinds = [kind for kind, value in given.items() if value is not None]
        if len(kinds) != 1:
            raise TypeError("a Grammar is made from one of json_schema, regex, gbnf and harmony")
        text = _json(given[kinds[0]])
        create = getattr(lib, f"gptoss_grammar_create_from_{kinds[0]}")
        handle = c_void_p()
        if isinstance(of, Model):
            with of.tokenizer as tokenizer:
                tokenizer._call(create, text, len(text), byref(handle))
        elif isinstance(of, Tokenizer):
            of._call(create, text, len(text), byref(handle))
        else:
            raise TypeError(f"a Grammar is made for a Model or a Tokenizer, not for {type(of).__name__}")
        self._own(handle, lib.gptoss_grammar_release)
