"""OpenAI's gpt-oss models on any Vulkan GPU: bindings of libgptoss.

    from gptoss import Chat, Context, Model

    model = Model("gpt-oss-20b")
    for delta in Chat(model).send("Why is the sky blue?"):
        print(delta.text, end="", flush=True)

Model, Context and Tokenizer have the interface of OpenAI's gpt_oss.metal. The shared library is the file named by
load_library() or by the environment variable GPTOSS_LIBRARY, else one in this package's folder, else the system's.
"""

from ._library import library_version, load_library
from .adapter import Adapter, AdapterInfo
from .chat import Chat, Delta, HarmonyParser, Reply, StreamState, ToolCall
from .context import Context, ContextStats, KernelTime
from .errors import (
    CancelledError,
    ContextOverflowError,
    DeviceLostError,
    FileError,
    GptossError,
    InsufficientMemoryError,
    InsufficientResourcesError,
    InternalError,
    InvalidArgumentError,
    InvalidStateError,
    UnsupportedArgumentError,
    UnsupportedSystemError,
)
from .generation import Generation, Output, Usage
from .grammar import Grammar
from .model import DeviceInfo, MemoryEstimate, Model, ModelInfo, Tokenizer, devices, measure_bandwidth
from .sampler import Sampler
from .taps import Tapped, Taps
from .together import Generated, GenerateRequest, generate_together

__version__ = "0.2.0"

__all__ = [
    "Adapter",
    "AdapterInfo",
    "CancelledError",
    "Chat",
    "Context",
    "ContextOverflowError",
    "ContextStats",
    "Delta",
    "DeviceInfo",
    "DeviceLostError",
    "FileError",
    "GenerateRequest",
    "Generated",
    "Generation",
    "GptossError",
    "Grammar",
    "HarmonyParser",
    "InsufficientMemoryError",
    "InsufficientResourcesError",
    "InternalError",
    "InvalidArgumentError",
    "InvalidStateError",
    "KernelTime",
    "MemoryEstimate",
    "Model",
    "ModelInfo",
    "Output",
    "Reply",
    "Sampler",
    "StreamState",
    "Tapped",
    "Taps",
    "Tokenizer",
    "ToolCall",
    "UnsupportedArgumentError",
    "UnsupportedSystemError",
    "Usage",
    "devices",
    "generate_together",
    "library_version",
    "load_library",
    "measure_bandwidth",
]
