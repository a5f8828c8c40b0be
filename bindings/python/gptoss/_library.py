"""Finds libgptoss, and declares its functions, structs and values exactly as gptoss.h does."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from ctypes import CFUNCTYPE, POINTER, c_char, c_char_p, c_double, c_float, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any, Optional, Union

from .errors import BY_STATUS, GptossError

VERSION = (0, 2)  # of gptoss.h: the library's major is the same, its minor not lower

LogCallback = CFUNCTYPE(None, c_void_p, c_int, c_char_p)
ProgressCallback = CFUNCTYPE(c_int, c_void_p, c_uint64, c_uint64)
TokenCallback = CFUNCTYPE(c_int, c_void_p, c_uint32)


class LogprobStruct(ctypes.Structure):
    _fields_ = [
        ("token", c_uint32),
        ("logprob", c_float),
    ]


class OutputStruct(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("token", c_uint32),
        ("logprob", c_float),
        ("text", c_void_p),
        ("text_size", c_size_t),
        ("top_logprobs", POINTER(LogprobStruct)),
        ("num_top_logprobs", c_size_t),
    ]


OutputCallback = CFUNCTYPE(c_int, c_void_p, POINTER(OutputStruct))


class TapStruct(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("kind", c_int),
        ("layer", c_uint32),
        ("position", c_size_t),
        ("num_rows", c_size_t),
        ("num_columns", c_size_t),
        ("values", POINTER(c_float)),
    ]


TapCallback = CFUNCTYPE(c_int, c_void_p, POINTER(TapStruct))


class TapOptionsStruct(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("kinds", c_uint32),
        ("layers", POINTER(c_uint32)),
        ("num_layers", c_size_t),
        ("positions", POINTER(c_uint32)),
        ("num_positions", c_size_t),
        ("first_position", c_size_t),
        ("callback", TapCallback),
        ("user_data", c_void_p),
        ("values_out", POINTER(c_float)),
        ("max_values", c_size_t),
        ("num_values_out", POINTER(c_size_t)),
    ]


class EmbeddingOptionsStruct(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("pooling", c_int),
        ("unnormalized", c_uint32),
    ]


class UsageStruct(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("prompt_tokens", c_size_t),
        ("cached_tokens", c_size_t),
        ("generated_tokens", c_size_t),
        ("forced_tokens", c_size_t),
    ]


class DeviceInfoStruct(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("name", c_char * 256),
        ("driver", c_char * 256),
        ("type", c_int),
        ("tier", c_int),
        ("memory_size", c_uint64),
        ("memory_available", c_uint64),
        ("supported", c_uint32),
        ("subgroup_size", c_uint32),
        ("max_allocation_size", c_uint64),
        ("uuid", c_char * 40),
    ]


class ModelOptionsStruct(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("device", c_char_p),
        ("weights", c_int),
        ("kv", c_int),
        ("tier", c_int),
        ("memory_budget", c_uint64),
        ("progress", ProgressCallback),
        ("progress_user_data", c_void_p),
        ("log", LogCallback),
        ("log_user_data", c_void_p),
        ("context_length", c_uint64),
        ("cache_directory", c_char_p),
        ("warm_up", c_uint32),
        ("prefix_cache_bytes", c_uint64),
        ("adapters", POINTER(c_char_p)),
        ("num_adapters", c_size_t),
    ]


class ModelInfoStruct(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("num_layers", c_uint32),
        ("hidden_size", c_uint32),
        ("intermediate_size", c_uint32),
        ("num_heads", c_uint32),
        ("num_kv_heads", c_uint32),
        ("head_size", c_uint32),
        ("num_experts", c_uint32),
        ("num_active_experts", c_uint32),
        ("vocabulary_size", c_uint32),
        ("sliding_window", c_uint32),
        ("max_context_length", c_uint64),
        ("weights", c_int),
        ("kv", c_int),
        ("tier", c_int),
        ("device", c_uint32),
        ("weight_bytes", c_uint64),
        ("bytes_per_token", c_uint64),
        ("host_weight_bytes", c_uint64),
        ("num_device_experts", c_uint32),
        ("expert_hits", c_uint64),
        ("expert_misses", c_uint64),
        ("num_variants_left_out", c_uint32),
    ]


class MemoryEstimateStruct(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("weight_bytes", c_uint64),
        ("host_weight_bytes", c_uint64),
        ("cache_bytes", c_uint64),
        ("activation_bytes", c_uint64),
        ("staging_bytes", c_uint64),
        ("available_bytes", c_uint64),
        ("fits", c_uint32),
        ("prefix_cache_bytes", c_uint64),
        ("adapter_bytes", c_uint64),
    ]


class AdapterInfoStruct(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("rank", c_uint32),
        ("device_bytes", c_uint64),
    ]


class GenerateOptionsStruct(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("max_tokens", c_size_t),
        ("stop_tokens", POINTER(c_uint32)),
        ("num_stop_tokens", c_size_t),
        ("callback", TokenCallback),
        ("user_data", c_void_p),
        ("output_callback", OutputCallback),
        ("stop_strings", POINTER(c_char_p)),
        ("num_stop_strings", c_size_t),
        ("logprobs", c_int),
        ("num_top_logprobs", c_uint32),
        ("usage_out", POINTER(UsageStruct)),
        ("prompt_lookup", c_int),
    ]


class GenerationStruct(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("context", c_void_p),
        ("sampler", c_void_p),
        ("options", POINTER(GenerateOptionsStruct)),
        ("num_tokens", c_size_t),
        ("stop_reason", c_int),
        ("status", c_int),
    ]


class ContextStatsStruct(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("cache_bytes", c_uint64),
        ("activation_bytes", c_uint64),
        ("cache_bytes_per_token", c_uint64),
        ("step_dispatches", c_uint32),
        ("step_barriers", c_uint32),
        ("prompt_tokens_computed", c_uint64),
        ("decode_steps", c_uint64),
    ]


class KernelTimeStruct(ctypes.Structure):
    _fields_ = [
        ("name", c_char * 32),
        ("microseconds", c_double),
        ("dispatches", c_uint32),
    ]


STRUCTS = {
    "gptoss_device_info": DeviceInfoStruct,
    "gptoss_model_options": ModelOptionsStruct,
    "gptoss_model_info": ModelInfoStruct,
    "gptoss_memory_estimate": MemoryEstimateStruct,
    "gptoss_adapter_info": AdapterInfoStruct,
    "gptoss_logprob": LogprobStruct,
    "gptoss_output": OutputStruct,
    "gptoss_usage": UsageStruct,
    "gptoss_generate_options": GenerateOptionsStruct,
    "gptoss_generation": GenerationStruct,
    "gptoss_context_stats": ContextStatsStruct,
    "gptoss_kernel_time": KernelTimeStruct,
    "gptoss_tap": TapStruct,
    "gptoss_tap_options": TapOptionsStruct,
    "gptoss_embedding_options": EmbeddingOptionsStruct,
}

_u32_out, _size_out, _handle_out = POINTER(c_uint32), POINTER(c_size_t), POINTER(c_void_p)
_grammar_maker = (c_void_p, c_char_p, c_size_t, _handle_out)
_text_getter = (c_void_p, POINTER(c_void_p), _size_out)

STATUS_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "gptoss_device_count": (_u32_out,),
    "gptoss_device_get_info": (c_uint32, POINTER(DeviceInfoStruct)),
    "gptoss_device_measure_bandwidth": (c_uint32, POINTER(c_double)),
    "gptoss_model_create_from_file": (c_char_p, _handle_out),
    "gptoss_model_create": (c_char_p, POINTER(ModelOptionsStruct), _handle_out),
    "gptoss_model_estimate_memory": (
        c_char_p,
        POINTER(ModelOptionsStruct),
        c_size_t,
        c_size_t,
        POINTER(MemoryEstimateStruct),
    ),
    "gptoss_model_get_info": (c_void_p, POINTER(ModelInfoStruct)),
    "gptoss_model_get_tokenizer": (c_void_p, _handle_out),
    "gptoss_model_get_max_context_length": (c_void_p, _size_out),
    "gptoss_model_retain": (c_void_p,),
    "gptoss_model_release": (c_void_p,),
    "gptoss_tokenizer_create": (c_char_p, _handle_out),
    "gptoss_tokenizer_encode": (c_void_p, c_char_p, c_size_t, c_int, _u32_out, c_size_t, _size_out),
    "gptoss_tokenizer_decode": (c_void_p, c_uint32, POINTER(c_void_p), _size_out),
    "gptoss_tokenizer_decode_tokens": (c_void_p, _u32_out, c_size_t, c_char_p, c_size_t, _size_out),
    "gptoss_tokenizer_get_special_token_id": (c_void_p, c_int, _u32_out),
    "gptoss_tokenizer_find_special_token": (c_void_p, c_char_p, _u32_out),
    "gptoss_tokenizer_get_special_token_name": (c_void_p, c_uint32, POINTER(c_char_p)),
    "gptoss_tokenizer_get_num_text_tokens": (c_void_p, _u32_out),
    "gptoss_tokenizer_get_num_special_tokens": (c_void_p, _u32_out),
    "gptoss_tokenizer_get_num_tokens": (c_void_p, _u32_out),
    "gptoss_tokenizer_retain": (c_void_p,),
    "gptoss_tokenizer_release": (c_void_p,),
    "gptoss_adapter_create": (c_void_p, c_char_p, _handle_out),
    "gptoss_adapter_get_info": (c_void_p, POINTER(AdapterInfoStruct)),
    "gptoss_adapter_retain": (c_void_p,),
    "gptoss_adapter_release": (c_void_p,),
    "gptoss_context_create": (c_void_p, c_size_t, c_size_t, _handle_out),
    "gptoss_context_get_num_tokens": (c_void_p, _size_out),
    "gptoss_context_get_max_tokens": (c_void_p, _size_out),
    "gptoss_context_get_tokens": (c_void_p, _u32_out, c_size_t, _size_out),
    "gptoss_context_append_chars": (c_void_p, c_char_p, c_size_t, _size_out),
    "gptoss_context_append_tokens": (c_void_p, c_size_t, _u32_out),
    "gptoss_context_reset": (c_void_p,),
    "gptoss_context_truncate": (c_void_p, c_size_t),
    "gptoss_context_process": (c_void_p,),
    "gptoss_context_get_logits": (c_void_p, POINTER(c_float), c_size_t, _size_out),
    "gptoss_context_sample": (c_void_p, c_float, c_uint64, c_size_t, _u32_out, _size_out),
    "gptoss_context_generate": (c_void_p, c_void_p, POINTER(GenerateOptionsStruct), _size_out, POINTER(c_int)),
    "gptoss_generate_together": (POINTER(GenerationStruct), c_size_t),
    "gptoss_context_get_logprobs": (
        c_void_p,
        c_size_t,
        c_size_t,
        c_size_t,
        POINTER(c_float),
        POINTER(LogprobStruct),
    ),
    "gptoss_context_cancel": (c_void_p,),
    "gptoss_context_clear_cancel": (c_void_p,),
    "gptoss_context_fork": (c_void_p, _handle_out),
    "gptoss_context_save": (c_void_p, c_void_p, c_size_t, _size_out),
    "gptoss_context_restore": (c_void_p, c_void_p, c_size_t),
    "gptoss_context_set_adapter": (c_void_p, c_void_p, c_float),
    "gptoss_context_retain": (c_void_p,),
    "gptoss_context_release": (c_void_p,),
    "gptoss_context_get_stats": (c_void_p, POINTER(ContextStatsStruct)),
    "gptoss_context_profile": (c_void_p, c_size_t, c_void_p, POINTER(KernelTimeStruct), c_size_t, _size_out),
    "gptoss_context_set_tap": (c_void_p, POINTER(TapOptionsStruct)),
    "gptoss_model_embed": (
        c_void_p,
        c_size_t,
        _u32_out,
        _size_out,
        POINTER(EmbeddingOptionsStruct),
        POINTER(c_float),
    ),
    "gptoss_model_unembed": (c_void_p, c_size_t, POINTER(c_float), POINTER(c_float)),
    "gptoss_sampler_create": (_handle_out,),
    "gptoss_sampler_set_temperature": (c_void_p, c_float),
    "gptoss_sampler_set_top_k": (c_void_p, c_uint32),
    "gptoss_sampler_set_top_p": (c_void_p, c_float),
    "gptoss_sampler_set_min_p": (c_void_p, c_float),
    "gptoss_sampler_set_presence_penalty": (c_void_p, c_float),
    "gptoss_sampler_set_frequency_penalty": (c_void_p, c_float),
    "gptoss_sampler_set_repetition_penalty": (c_void_p, c_float),
    "gptoss_sampler_set_logit_bias": (c_void_p, c_size_t, _u32_out, POINTER(c_float)),
    "gptoss_sampler_set_grammar": (c_void_p, c_void_p),
    "gptoss_sampler_set_seed": (c_void_p, c_uint64),
    "gptoss_sampler_retain": (c_void_p,),
    "gptoss_sampler_release": (c_void_p,),
    "gptoss_grammar_create_from_json_schema": _grammar_maker,
    "gptoss_grammar_create_from_regex": _grammar_maker,
    "gptoss_grammar_create_from_gbnf": _grammar_maker,
    "gptoss_grammar_create_from_harmony": _grammar_maker,
    "gptoss_grammar_retain": (c_void_p,),
    "gptoss_grammar_release": (c_void_p,),
    "gptoss_harmony_render": (c_void_p, c_char_p, c_size_t, _u32_out, c_size_t, _size_out),
    "gptoss_harmony_parser_create": (c_void_p, _handle_out),
    "gptoss_harmony_parser_process": (c_void_p, c_uint32),
    "gptoss_harmony_parser_reset": (c_void_p,),
    "gptoss_harmony_parser_get_role": _text_getter,
    "gptoss_harmony_parser_get_channel": _text_getter,
    "gptoss_harmony_parser_get_recipient": _text_getter,
    "gptoss_harmony_parser_get_content_type": _text_getter,
    "gptoss_harmony_parser_get_delta": _text_getter,
    "gptoss_harmony_parser_get_state": (c_void_p, POINTER(c_int)),
    "gptoss_harmony_parser_is_malformed": (c_void_p, POINTER(c_int)),
    "gptoss_harmony_parser_get_messages": (c_void_p, c_char_p, c_size_t, _size_out),
    "gptoss_harmony_parser_retain": (c_void_p,),
    "gptoss_harmony_parser_release": (c_void_p,),
}
OTHER_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "gptoss_version": (c_uint32, ()),
    "gptoss_status_string": (c_char_p, (c_int,)),
    "gptoss_last_error": (c_char_p, ()),
}


# What a callback raised in the call that runs in this thread, which the callback made the library cancel.
callback_error = threading.local()


def _check(status: Any, function: Any, arguments: Any) -> Any:
    if status:
        raised: Optional[BaseException] = callback_error.__dict__.pop("raised", None)
        if raised is not None:
            raise raised
        message = lib.gptoss_last_error() or lib.gptoss_status_string(status)
        raise BY_STATUS.get(status, GptossError)(message.decode("utf-8", "replace"))


class _Library:
    """The functions of libgptoss as attributes, each bound when it is first used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._dll: Optional[ctypes.CDLL] = None

    def load(self, path: Optional[str]) -> ctypes.CDLL:
        with self._lock:
            if self._dll is None:
                self._dll = _open(path)
            elif path is not None:
                raise GptossError(f"cannot load {path}: {self._dll._name} is loaded")
            return self._dll

    def __getattr__(self, name: str) -> Any:
        dll = self.load(None)
        try:
            function = dll[name]
        except AttributeError:
            raise GptossError(f"{dll._name} has no {name}: it is older than this package") from None
        if name in OTHER_FUNCTIONS:
            function.restype, function.argtypes = OTHER_FUNCTIONS[name]
        else:
            function.restype, function.argtypes, function.errcheck = c_int, STATUS_FUNCTIONS[name], _check
        setattr(self, name, function)
        return function


def _open(path: Optional[str]) -> ctypes.CDLL:
    file = {"win32": "gptoss.dll", "darwin": "libgptoss.dylib"}.get(sys.platform, "libgptoss.so")
    packaged = os.path.join(os.path.dirname(os.path.abspath(__file__)), file)
    path = path or os.environ.get("GPTOSS_LIBRARY")
    if not path:
        path = packaged if os.path.exists(packaged) else file + (f".{VERSION[0]}" if file.endswith(".so") else "")
    try:
        dll = ctypes.CDLL(path)
        dll.gptoss_version.restype = c_uint32
        version = dll.gptoss_version()
    except (OSError, AttributeError) as error:
        raise GptossError(
            f"cannot load libgptoss: {error}. Install it, or name the file in GPTOSS_LIBRARY or load_library()."
        ) from None
    if version // 10000 != VERSION[0] or version // 100 % 100 < VERSION[1]:
        raise GptossError(f"{path} is version {version // 10000}.{version // 100 % 100}: {VERSION[0]}.{VERSION[1]} needed")
    return dll


lib: Any = _Library()


def load_library(path: Union[str, os.PathLike[str]]) -> None:
    """Loads libgptoss from a file, before anything else of this package is used."""
    lib.load(os.fspath(path))


def library_version() -> tuple[int, int, int]:
    version = lib.gptoss_version()
    return version // 10000, version // 100 % 100, version % 100
