"""LoRA adapters of a model."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_void_p
from typing import NamedTuple

from ._handle import Handle
from ._library import AdapterInfoStruct, lib
from .model import Model, Path, _fill, _path


class AdapterInfo(NamedTuple):
    """The fields of gptoss.h."""

    rank: int
    device_bytes: int


class Adapter(Handle):
    """Low-rank matrices whose products are added to those of a model's weights, for contexts: Context.set_adapter.

    path: a directory of PEFT's, with adapter_config.json and adapter_model.safetensors, or a GGUF file. Shared by any
    number of contexts and threads. What cannot be applied of it raises an error that names it.
    """

    def __init__(self, model: Model, path: Path) -> None:
        if not isinstance(model, Model):
            raise TypeError(f"an Adapter is made for a Model, not for {type(model).__name__}")
        handle = c_void_p()
        model._call(lib.gptoss_adapter_create, _path(path), byref(handle))
        self._own(handle, lib.gptoss_adapter_release)
        self._model, self._log = model._shared, model._log

    @property
    def info(self) -> AdapterInfo:
        info = AdapterInfoStruct(struct_size=ctypes.sizeof(AdapterInfoStruct))
        self._call(lib.gptoss_adapter_get_info, byref(info))
        return AdapterInfo(**_fill(info, {}))
