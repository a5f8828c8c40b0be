"""What a model computes on the way to its logits, token by token."""

from __future__ import annotations

import ctypes
import weakref
from ctypes import POINTER, c_float, c_uint32
from typing import TYPE_CHECKING, Any, Callable, Iterable, NamedTuple, Optional

from ._array import float_array
from ._library import TapCallback, TapOptionsStruct, callback_error

if TYPE_CHECKING:
    from .context import Context

KINDS = {"embedding": 1, "hidden": 2, "final": 4, "router": 8, "experts": 16, "attention": 32}
_NAMES = {value: name for name, value in KINDS.items()}


class Tapped(NamedTuple):
    """What was tapped of one token. values: float32 in the shape that gptoss.h gives the kind, a numpy array where numpy is
    there, which has DLPack too, else a memoryview. They own their memory."""

    kind: str
    layer: int
    position: int
    values: Any


class Taps:
    """What a context's tap has handed over so far, in order; and a context manager that removes the tap."""

    def __init__(self, context: Context, on_tap: Optional[Callable[[Tapped], object]]) -> None:
        self.items: list[Tapped] = []
        self._context, self._on_tap = weakref.ref(context), on_tap

    def find(self, kind: str, layer: Optional[int] = None, position: Optional[int] = None) -> list[Any]:
        """The values of a kind, those of a layer or a position alone where one is given; numpy.stack() joins them."""
        if kind not in KINDS:
            raise ValueError(f"there is no kind {kind!r}: {', '.join(KINDS)}")
        return [
            item.values
            for item in self.items
            if item.kind == kind and layer in (None, item.layer) and position in (None, item.position)
        ]

    def _receive(self, _: Any, tap: Any) -> int:
        try:
            of = tap[0]
            rows, columns = of.num_rows, of.num_columns
            memory = (c_float * (rows * columns))()
            ctypes.memmove(memory, of.values, ctypes.sizeof(memory))
            shape = (columns,) if rows == 1 else (rows, columns)
            item = Tapped(_NAMES[of.kind], of.layer, of.position, float_array(memory, shape))
            if self._on_tap is not None:
                self._on_tap(item)
            else:
                self.items.append(item)
        except BaseException as error:
            callback_error.raised = error  # goes on once the call of the library has returned
            return 1
        return 0

    def close(self) -> None:
        """Removes the tap, unless another one took its place; what was handed over stays."""
        context = self._context()
        if context is not None:
            context._remove_tap(self)

    def __enter__(self) -> Taps:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def tap_options(
    taps: Taps,
    kinds: Iterable[str],
    layers: Optional[Iterable[int]],
    positions: Optional[Iterable[int]],
    first_position: int,
) -> TapOptionsStruct:
    """The struct of gptoss.h; taps receives what is tapped."""
    options = TapOptionsStruct(struct_size=ctypes.sizeof(TapOptionsStruct))
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"there is no kind {kind!r}: {', '.join(KINDS)}")
        options.kinds |= KINDS[kind]

    def array(values: Iterable[int], name: str) -> Any:
        numbers = list(values)
        for number in numbers:
            if not 0 <= number < 2**32:
                raise OverflowError(f"{name} has {number}, which no model has")
        # of one more, since an empty array has no address
        return ctypes.cast((c_uint32 * (len(numbers) + 1))(*numbers), POINTER(c_uint32)), len(numbers)

    if layers is not None:
        options.layers, options.num_layers = array(layers, "layers")
    if positions is not None:
        options.positions, options.num_positions = array(positions, "positions")
    if first_position < 0:
        raise ValueError("first_position must not be negative")
    options.first_position = first_position
    options.callback = TapCallback(taps._receive)
    return options
