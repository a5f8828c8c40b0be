"""The declarations in ctypes equal gptoss.h: every function with its types, every struct field by field, every value."""

import ctypes
import os
import re
import unittest
from ctypes import POINTER, c_char, c_char_p, c_double, c_float, c_int, c_size_t, c_uint32, c_uint64, c_void_p

from gptoss import StreamState, _library, errors, generation, model, taps

HERE = os.path.dirname(os.path.abspath(__file__))
HEADER = os.path.join(os.environ.get("GPTOSS_INCLUDE_DIR", os.path.join(HERE, "../../../include")), "gptoss.h")

SCALARS = {
    "int": c_int,
    "uint32_t": c_uint32,
    "uint64_t": c_uint64,
    "size_t": c_size_t,
    "float": c_float,
    "double": c_double,
    "char": c_char,
    "gptoss_progress_callback_t": _library.ProgressCallback,
    "gptoss_log_callback_t": _library.LogCallback,
    "gptoss_token_callback_t": _library.TokenCallback,
    "gptoss_output_callback_t": _library.OutputCallback,
    "gptoss_tap_callback_t": _library.TapCallback,
}


def ctype(c: str) -> object:
    """What ctypes calls a C type: every handle is a void*, every enum an int."""
    c = re.sub(r"\bconst\b", "", c).strip()
    if c.endswith("*"):
        inner = c[:-1].strip()
        if inner in ("char", "void"):
            return c_char_p if inner == "char" else c_void_p
        return POINTER(ctype(inner))
    if c.startswith("enum "):
        return c_int
    if c.startswith("struct "):
        return _library.STRUCTS[c[len("struct ") :]]
    return SCALARS[c] if c in SCALARS else c_void_p


def equal(declared: object, header: object) -> bool:
    # Where the library gives bytes with a size, a c_char_p would cut them at a NUL.
    return declared == header or (declared, header) in ((POINTER(c_void_p), POINTER(c_char_p)), (c_void_p, c_char_p))


class Declarations(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        with open(HEADER, encoding="utf-8") as file:
            cls.header = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.DOTALL)

    def test_functions(self) -> None:
        functions = re.findall(r"GPTOSS_ABI ([\w* ]+?)(gptoss_\w+)\(([^)]*)\);", self.header)
        declared = {name: (c_int, types) for name, types in _library.STATUS_FUNCTIONS.items()}
        declared.update(_library.OTHER_FUNCTIONS)
        self.assertEqual({name for _, name, _ in functions}, set(declared))
        for result, name, arguments in functions:
            types = [re.sub(r"\w+$", "", argument.strip()) for argument in arguments.split(",")]
            types = [] if arguments == "void" else [ctype(type) for type in types]
            self.assertTrue(equal(declared[name][0], ctype(result)), name)
            self.assertEqual(len(declared[name][1]), len(types), name)
            for ours, theirs in zip(declared[name][1], types):
                self.assertTrue(equal(ours, theirs), f"{name}: {ours} is not {theirs}")

    def test_structs(self) -> None:
        structs = dict(re.findall(r"^struct (\w+) \{(.*?)\};", self.header, flags=re.DOTALL | re.MULTILINE))
        self.assertEqual(set(structs), set(_library.STRUCTS))
        for name, body in structs.items():
            fields = []
            for type, field, length in re.findall(r"([\w* ]+?)(\w+)(?:\[(\d+)\])?;", body):
                fields.append((field, ctype(type) * int(length) if length else ctype(type)))
            declared = _library.STRUCTS[name]._fields_
            self.assertEqual([field for field, _ in fields], [field for field, _ in declared], name)
            for (field, ours), (_, theirs) in zip(declared, fields):
                self.assertTrue(equal(ours, theirs), f"{name}.{field}: {ours} is not {theirs}")

    def test_values(self) -> None:
        values = {name: int(value) for name, value in re.findall(r"^\s+gptoss_(\w+) = (\d+),", self.header, re.MULTILINE)}

        def named(prefix: str) -> dict:
            return {name[len(prefix) :]: value for name, value in values.items() if name.startswith(prefix)}

        for prefix, names in {
            "device_type_": model.DEVICE_TYPES,
            "kernel_tier_": model.TIERS,
            "weight_type_": model.WEIGHT_TYPES,
            "kv_type_": model.KV_TYPES,
            "pooling_": model.POOLINGS,
        }.items():
            self.assertEqual(named(prefix), {name: value for value, name in enumerate(names)})
        self.assertEqual(named("tap_kind_"), taps.KINDS)
        self.assertEqual(named("log_level_"), {name: value for value, name in enumerate(model.LOG_LEVELS) if name})
        self.assertEqual(named("harmony_state_"), {state.name.lower(): state.value for state in StreamState})
        reasons = {name.replace("closed", "callback"): value for value, name in enumerate(generation.STOP_REASONS)}
        self.assertEqual(named("stop_reason_"), reasons)
        logprobs = {name or "none": value for value, name in enumerate(generation.LOGPROBS)}
        self.assertEqual(named("logprobs_"), logprobs)
        self.assertEqual({value for value in named("status_").values() if value}, set(errors.BY_STATUS))

    def test_version(self) -> None:
        version = [int(part) for part in re.findall(r"#define GPTOSS_VERSION_\w+ (\d+)", self.header)]
        self.assertEqual(_library.VERSION, tuple(version[:2]))
        self.assertEqual(ctypes.sizeof(c_int), 4)


if __name__ == "__main__":
    unittest.main()
