"""Devices, models and tokenizers: what threads share."""

from __future__ import annotations

import ctypes
import json
import operator
import os
from array import array
from ctypes import byref, c_char_p, c_double, c_float, c_size_t, c_uint32, c_void_p
from typing import Any, Callable, Iterable, NamedTuple, Optional, Union, cast

from ._array import float_array
from ._handle import Handle
from ._library import (
    DeviceInfoStruct,
    EmbeddingOptionsStruct,
    LogCallback,
    MemoryEstimateStruct,
    ModelInfoStruct,
    ModelOptionsStruct,
    ProgressCallback,
    lib,
)
from .errors import CancelledError, InvalidArgumentError

Path = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]

DEVICE_TYPES = ("other", "integrated_gpu", "discrete_gpu", "virtual_gpu", "cpu")
TIERS = ("default", "exact", "coopmat", "integer")
WEIGHT_TYPES = ("default", "bf16", "q8")
KV_TYPES = ("default", "f16", "f32")
POOLINGS = ("last", "mean")
LOG_LEVELS = ("", "error", "warning", "info")


class DeviceInfo(NamedTuple):
    name: str
    driver: str
    type: str
    tier: str
    memory_size: int
    memory_available: int
    supported: bool
    subgroup_size: int
    max_allocation_size: int
    uuid: str


class ModelInfo(NamedTuple):
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    num_experts: int
    num_active_experts: int
    vocabulary_size: int
    sliding_window: int
    max_context_length: int
    weights: str
    kv: str
    tier: str
    device: int
    weight_bytes: int
    bytes_per_token: int
    host_weight_bytes: int
    num_device_experts: int
    expert_hits: int
    expert_misses: int
    num_variants_left_out: int


class MemoryEstimate(NamedTuple):
    weight_bytes: int
    host_weight_bytes: int
    cache_bytes: int
    activation_bytes: int
    staging_bytes: int
    available_bytes: int
    fits: bool
    prefix_cache_bytes: int
    adapter_bytes: int


def _name(names: tuple[str, ...], value: int) -> str:
    return names[value] if value < len(names) else str(value)


def _value(names: tuple[str, ...], name: str, what: str) -> int:
    if name not in names:
        raise InvalidArgumentError(f"{what} is {name!r}: none of {', '.join(names)}")
    return names.index(name)


def _fill(struct: Any, names: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """The fields of a struct but struct_size, with names in place of the values of enums."""
    fields = {field[0]: getattr(struct, field[0]) for field in struct._fields_[1:]}
    return {key: _name(names[key], value) if key in names else value for key, value in fields.items()}


def _options(
    device: Optional[str],
    weights: str,
    kv: str,
    tier: str,
    memory_budget: int,
    context_length: int,
    prefix_cache_bytes: int,
    adapters: Iterable[Path] = (),
) -> ModelOptionsStruct:
    paths = [_path(path) for path in adapters]
    return ModelOptionsStruct(
        struct_size=ctypes.sizeof(ModelOptionsStruct),
        device=None if device is None else str(device).encode(),
        weights=_value(WEIGHT_TYPES, weights, "weights"),
        kv=_value(KV_TYPES, kv, "kv"),
        tier=_value(TIERS, tier, "tier"),
        memory_budget=memory_budget,
        context_length=context_length,
        prefix_cache_bytes=prefix_cache_bytes,
        adapters=(c_char_p * len(paths))(*paths),
        num_adapters=len(paths),
    )


def _path(path: Path) -> bytes:
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise InvalidArgumentError("the path holds a NUL")
    return encoded


def token_array(tokens: Iterable[int]) -> Any:
    """Tokens as a C array. array() checks types and ranges, which ctypes would not."""
    values = array("I", tokens if isinstance(tokens, (list, tuple)) else list(tokens))
    return (c_uint32 * len(values)).from_buffer(values)


def single_token(what: Any) -> Optional[int]:
    """The token that an integer of any type is; None for what is to be iterated."""
    try:
        return operator.index(what)
    except TypeError:
        return None


def devices() -> list[DeviceInfo]:
    """The Vulkan devices of this machine; none without Vulkan."""
    count = c_uint32()
    lib.gptoss_device_count(byref(count))
    found = []
    for index in range(count.value):
        info = DeviceInfoStruct(struct_size=ctypes.sizeof(DeviceInfoStruct))
        lib.gptoss_device_get_info(index, byref(info))
        fields = _fill(info, {"type": DEVICE_TYPES, "tier": TIERS})
        for text in ("name", "driver"):
            fields[text] = fields[text].decode("utf-8", "replace")
        fields["supported"] = bool(info.supported)
        found.append(DeviceInfo(**fields))
    return found


def measure_bandwidth(device: int) -> float:
    """How fast a device copies its own memory, in bytes read and written a second; takes about a second."""
    bytes_per_second = c_double()
    lib.gptoss_device_measure_bandwidth(device, byref(bytes_per_second))
    return bytes_per_second.value


class Tokenizer(Handle):
    """Text to tokens and back.

    Tokenizer(model) gives the model's own; Tokenizer() the built-in o200k_harmony; Tokenizer(path) that of a
    tokenizer.json, .tiktoken or .gguf file, or of a directory that holds one.
    """

    def __init__(self, model: Union["Model", Path, None] = None) -> None:
        handle = c_void_p()
        if isinstance(model, Model):
            model._call(lib.gptoss_model_get_tokenizer, byref(handle))
        else:
            lib.gptoss_tokenizer_create(None if model is None else _path(model), byref(handle))
        self._own(handle, lib.gptoss_tokenizer_release)

    def encode(self, text: Union[str, bytes], allow_special: bool = False) -> list[int]:
        """allow_special: "<|start|>" and the like become special tokens, and not the tokens of their letters."""
        data = text.encode() if isinstance(text, str) else bytes(text)
        tokens = (c_uint32 * len(data))()  # no token is shorter than a byte
        size = c_size_t()
        self._call(lib.gptoss_tokenizer_encode, data, len(data), allow_special, tokens, len(data), byref(size))
        return tokens[: size.value]

    def decode(self, token: Union[int, Iterable[int]]) -> bytes:
        """The bytes of a text token, or of several tokens, special ones among them by name.

        A character may span tokens: decode several together, or with codecs.getincrementaldecoder("utf-8").
        """
        size = c_size_t()
        one = single_token(token)
        if one is not None:
            (value,) = token_array([one])
            data = c_void_p()
            self._call(lib.gptoss_tokenizer_decode, value, byref(data), byref(size))
            return ctypes.string_at(data, size.value)
        tokens = token_array(cast("Iterable[int]", token))
        decode = lib.gptoss_tokenizer_decode_tokens
        self._call(decode, tokens, len(tokens), None, 0, byref(size))
        text = ctypes.create_string_buffer(size.value)
        self._call(decode, tokens, len(tokens), text, size.value, byref(size))
        return text.raw

    def encode_special_token(self, name: str) -> int:
        """The id of "<|start|>" and the like."""
        if not isinstance(name, str):
            raise TypeError(f"the name of a special token is a str, not {type(name).__name__}")
        token = c_uint32()
        self._call(lib.gptoss_tokenizer_find_special_token, name.encode(), byref(token))
        return token.value

    def special_token_name(self, token: int) -> str:
        (value,) = token_array([token])
        name = c_char_p()
        self._call(lib.gptoss_tokenizer_get_special_token_name, value, byref(name))
        return (name.value or b"").decode()

    def render(self, conversation: dict[str, Any]) -> list[int]:
        """The tokens of a Harmony conversation {"messages": [...]}, ready for the assistant's turn."""
        data = json.dumps(conversation, ensure_ascii=False).encode()
        size = c_size_t()
        tokens = (c_uint32 * 0)()
        while True:
            self._call(lib.gptoss_harmony_render, data, len(data), tokens, len(tokens), byref(size))
            if size.value <= len(tokens):
                return tokens[: size.value]
            tokens = (c_uint32 * size.value)()

    @property
    def num_text_tokens(self) -> int:
        return self._get(lib.gptoss_tokenizer_get_num_text_tokens, c_uint32)

    @property
    def num_special_tokens(self) -> int:
        return self._get(lib.gptoss_tokenizer_get_num_special_tokens, c_uint32)

    @property
    def num_tokens(self) -> int:
        return self._get(lib.gptoss_tokenizer_get_num_tokens, c_uint32)


class Model(Handle):
    """A loaded checkpoint, for any number of threads and contexts.

    path: a Hugging Face directory, OpenAI's original/ directory, or a .gguf file.
    device: an index ("0") or a part of a name ("RTX"). weights: "default", "bf16" or "q8". kv: "default", "f16" or
    "f32". tier: "default", "exact", "coopmat" or "integer". memory_budget: bytes of device memory for the model and its
    contexts; 0 for what there is. context_length: where experts must be left in host memory, device memory is kept free
    of them for a context so long; 0 for 8192.
    progress(bytes_done, bytes_total): an exception in it, or a true result, stops the load.
    log(level, message): level is "error", "warning" or "info".
    warm_up: build the kernels of a first answer now, which else the first answer waits for.
    prefix_cache_bytes: the most device memory that beginnings of prompts are kept in for later ones; 0 for an eighth of
    what the weights leave, 1 for none.
    adapters: paths of adapters that there is to be room for; Adapter loads them.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: Optional[str] = None,
        weights: str = "default",
        kv: str = "default",
        tier: str = "default",
        memory_budget: int = 0,
        context_length: int = 0,
        progress: Optional[Callable[[int, int], Any]] = None,
        log: Optional[Callable[[str, str], Any]] = None,
        cache_directory: Optional[Path] = None,
        warm_up: bool = False,
        prefix_cache_bytes: int = 0,
        adapters: Iterable[Path] = (),
    ) -> None:
        raised: list[BaseException] = []

        def on_progress(_: Any, done: int, total: int) -> int:
            try:
                return 1 if progress is not None and progress(done, total) else 0
            except BaseException as error:
                raised.append(error)
                return 1

        def on_log(_: Any, level: int, message: bytes) -> None:
            if log is not None:
                log(_name(LOG_LEVELS, level), message.decode("utf-8", "replace"))

        options = _options(device, weights, kv, tier, memory_budget, context_length, prefix_cache_bytes, adapters)
        if cache_directory is not None:
            options.cache_directory = _path(cache_directory)
        options.warm_up = warm_up
        if progress is not None:
            options.progress = ProgressCallback(on_progress)
        if log is not None:
            options.log = LogCallback(on_log)
        self._log = options.log  # contexts keep it too: they keep the model alive
        handle = c_void_p()
        try:
            lib.gptoss_model_create(_path(path), byref(options), byref(handle))
        except CancelledError:
            if raised:
                raise raised[0] from None
            raise
        self._own(handle, lib.gptoss_model_release)

    @staticmethod
    def estimate_memory(
        path: Path,
        context_length: int = 0,
        max_batch_tokens: int = 0,
        *,
        device: Optional[str] = None,
        weights: str = "default",
        kv: str = "default",
        tier: str = "default",
        memory_budget: int = 0,
        prefix_cache_bytes: int = 0,
        adapters: Iterable[Path] = (),
    ) -> MemoryEstimate:
        """What a model so loaded and one context of it would take, bytes; loads nothing."""
        options = _options(device, weights, kv, tier, memory_budget, context_length, prefix_cache_bytes, adapters)
        estimate = MemoryEstimateStruct(struct_size=ctypes.sizeof(MemoryEstimateStruct))
        lib.gptoss_model_estimate_memory(
            _path(path), byref(options), context_length, max_batch_tokens, byref(estimate)
        )
        fields = _fill(estimate, {})
        fields["fits"] = bool(estimate.fits)
        return MemoryEstimate(**fields)

    @property
    def info(self) -> ModelInfo:
        info = ModelInfoStruct(struct_size=ctypes.sizeof(ModelInfoStruct))
        self._call(lib.gptoss_model_get_info, byref(info))
        return ModelInfo(**_fill(info, {"weights": WEIGHT_TYPES, "kv": KV_TYPES, "tier": TIERS}))

    @property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer(self)

    def embed(
        self, texts: Iterable[Union[str, bytes, Iterable[int]]], *, pooling: str = "last", normalize: bool = True
    ) -> Any:
        """A vector for each text, or for its tokens: float32 (texts, hidden_size), a numpy array where numpy is there, else
        a memoryview. pooling: "last" or "mean". gpt-oss was not trained for retrieval: see gptoss_model_embed in gptoss.h.
        """
        if isinstance(texts, (str, bytes)):
            raise TypeError("texts is one text: it has to be a list of them")
        if pooling not in POOLINGS:
            raise ValueError(f"pooling is {pooling!r}: {' or '.join(POOLINGS)}")
        with self.tokenizer as tokenizer:
            encoded = [tokenizer.encode(text) if isinstance(text, (str, bytes)) else list(text) for text in texts]
        tokens = token_array([token for text in encoded for token in text] + [0])
        sizes = (c_size_t * len(encoded))(*map(len, encoded))
        hidden = self.info.hidden_size
        vectors = (c_float * (len(encoded) * hidden))()
        options = EmbeddingOptionsStruct(struct_size=ctypes.sizeof(EmbeddingOptionsStruct))
        options.pooling, options.unnormalized = POOLINGS.index(pooling), not normalize
        self._call(lib.gptoss_model_embed, len(encoded), tokens, sizes, byref(options), vectors)
        return float_array(vectors, (len(encoded), hidden))

    def unembed(self, states: Iterable[Any]) -> Any:
        """The logits of residual states, by the final norm and the unembedding: of what a tap of kind "hidden" tells, what
        the model would say if it ended there. states: each of hidden_size floats; float32 (states, vocabulary_size), a
        numpy array where numpy is there, else a memoryview."""
        info, rows = self.info, [array("f", state) for state in states]
        for i, row in enumerate(rows):
            if len(row) != info.hidden_size:
                raise InvalidArgumentError(f"states[{i}] has {len(row)} values: a state has {info.hidden_size}")
        given = (c_float * (len(rows) * info.hidden_size)).from_buffer_copy(b"".join(row.tobytes() for row in rows))
        logits = (c_float * (len(rows) * info.vocabulary_size))()
        self._call(lib.gptoss_model_unembed, len(rows), given, logits)
        return float_array(logits, (len(rows), info.vocabulary_size))

    @property
    def max_context_length(self) -> int:
        return self._get(lib.gptoss_model_get_max_context_length, c_size_t)
