"""Shows what a model does with a text, token by token: which experts it uses, how sure its routers are, what it would say
after each layer, what a head attends to, and how likely each token was.

    python -m gptoss.inspect gpt-oss-20b "What is 15 + 23?"

The model answers the prompt, and both are looked at. It writes a page, index.html, that needs no other file and no
network, and its pictures as PNGs beside it. It takes matplotlib.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import Any, NamedTuple, Optional

from .context import Context
from .errors import GptossError
from .model import Model, Tokenizer, devices
from .taps import Tapped

TOP = 5  # tokens that the lens and the text tell


class InspectError(Exception):
    """What ends a run, as the user is told it."""


class Inspection(NamedTuple):
    """What a model did with the tokens from number `first` on, numpy arrays. T tokens, L layers, k active experts."""

    model: str
    device: str
    labels: list[str]  # (T) printable
    vocabulary: dict[int, str]  # labels of other tokens that are told
    tokens: list[int]  # (T)
    first: int
    num_experts: int
    experts: Any  # (T, L, k) the likeliest first
    weights: Any  # (T, L, k)
    entropy: Any  # (T, L) of the router's distribution over all experts, bits
    lens: Any  # (T, L, TOP) tokens that the residual after a layer stands for, the likeliest first
    lens_probabilities: Any  # (T, L, TOP)
    sinks: Any  # (T, L, heads) what the sink gets of a head's attention
    layer: int
    head: int
    attention: Any  # (T, first + T) of that head; 0 for keys outside of its window and after the token
    logprobs: list[Optional[float]]  # (T) of each token after those before it; None for the first of a text
    top: list[list[tuple[int, float]]]  # (T, TOP) the likeliest in its place, with their log-probabilities


def label(text: bytes) -> str:
    """A token's text in one visible line: spaces as they are, line ends as ↵, what cannot be printed by its number."""
    shown = {"\n": "↵", "\t": "⇥"}
    return "".join(
        shown.get(c) or (c if c.isprintable() else f"\\u{{{ord(c):x}}}") for c in text.decode("utf-8", "replace")
    )


def softmax(logits: Any) -> Any:
    numpy = importlib.import_module("numpy")
    shifted = numpy.exp(logits - logits.max(axis=-1, keepdims=True), dtype=numpy.float64)
    return shifted / shifted.sum(axis=-1, keepdims=True)


def _top(probabilities: Any, count: int) -> tuple[Any, Any]:
    """The likeliest of each row, ties by the lower index."""
    numpy = importlib.import_module("numpy")
    order = numpy.argsort(-probabilities, axis=-1, kind="stable")[..., :count]
    return order, numpy.take_along_axis(probabilities, order, axis=-1)


def inspect_tokens(
    model: Model, tokens: list[int], *, last: int = 64, layer: Optional[int] = None, head: Optional[int] = None, name: str = ""
) -> Inspection:
    """What the model does with the last so many of the tokens. layer, head: of the attention that is shown; without them
    those whose sink's share varies most. Without numpy an ImportError."""
    numpy = importlib.import_module("numpy")
    info = model.info
    first = max(0, len(tokens) - last)
    count, layers = len(tokens) - first, info.num_layers
    if count == 0:
        raise InspectError("there is no token to look at")
    for what, value, size in (("layer", layer, layers), ("head", head, info.num_heads)):
        if value is not None and not 0 <= value < size:
            raise InspectError(f"{what} {value}: the model has {size}, the first of which is 0")
    k = info.num_active_experts
    experts, weights = numpy.zeros((count, layers, k), int), numpy.zeros((count, layers, k), numpy.float32)
    router = numpy.zeros((count, layers, info.num_experts), numpy.float32)
    hidden = numpy.zeros((layers, count, info.hidden_size), numpy.float32)
    sinks = numpy.zeros((count, layers, info.num_heads), numpy.float32)
    attention = numpy.zeros((count, len(tokens)), numpy.float32)

    def on_tap(tapped: Tapped) -> None:
        at = tapped.position - first
        if tapped.kind == "hidden":
            hidden[tapped.layer, at] = tapped.values
        elif tapped.kind == "router":
            router[at, tapped.layer] = tapped.values
        elif tapped.kind == "experts":
            experts[at, tapped.layer], weights[at, tapped.layer] = tapped.values
        else:
            sinks[at, tapped.layer] = numpy.clip(1 - tapped.values.sum(axis=1, dtype=float), 0, 1)

    with Context(model, len(tokens) + 1) as context:
        context.append(tokens)
        with context.tap("hidden", "router", "experts", "attention", first_position=first, on_tap=on_tap):
            context.process()
        varies = sinks.std(axis=0)
        of_layers = varies.max(axis=1) if head is None else varies[:, head]
        layer = int(of_layers.argmax()) if layer is None else layer
        head = int(varies[layer].argmax()) if head is None else head
        with context.tap("attention", layers=[layer], first_position=first) as taps:
            context.process()
        for item in taps.items:
            keys = item.values.shape[1]
            attention[item.position - first, item.position + 1 - keys : item.position + 1] = item.values[head]
        told = max(first, 1)  # nothing stands before the first token
        logprobs: list[Optional[float]] = [None] * (told - first)
        top: list[list[tuple[int, float]]] = [[] for _ in logprobs]
        if told < len(tokens):
            values, likeliest = context.logprobs(told, len(tokens) - told, TOP)
            logprobs, top = logprobs + list(values), top + likeliest

    shape = count, layers, min(TOP, info.vocabulary_size)
    lens, lens_probabilities = numpy.zeros(shape, int), numpy.zeros(shape)
    for i in range(layers):
        lens[:, i], lens_probabilities[:, i] = _top(softmax(model.unembed(hidden[i])), TOP)
    chances = softmax(router)
    entropy = -(chances * numpy.log2(numpy.maximum(chances, 1e-30))).sum(axis=-1)
    with model.tokenizer as tokenizer:
        vocabulary = {
            token: token_label(tokenizer, token)
            for token in {*tokens[first:], *lens.ravel().tolist(), *(token for row in top for token, _ in row)}
        }
    return Inspection(
        name,
        devices()[info.device].name,
        [vocabulary[token] for token in tokens[first:]],
        vocabulary,
        tokens[first:],
        first,
        info.num_experts,
        experts,
        weights,
        entropy,
        lens,
        lens_probabilities,
        sinks,
        layer,
        head,
        attention,
        logprobs,
        top,
    )


def token_label(tokenizer: Tokenizer, token: int) -> str:
    try:
        return label(tokenizer.decode([token]))
    except GptossError:  # of a vocabulary that is rounded up: no text belongs to it
        return f"[{token}]"


def inspect_prompt(arguments: argparse.Namespace) -> Inspection:
    with Model(arguments.model, device=arguments.device, weights=arguments.weights) as model:
        with model.tokenizer as tokenizer:
            prompt = arguments.prompt.encode("utf-8", "replace").decode()  # a shell passes any bytes
            if arguments.raw:
                tokens = tokenizer.encode(prompt)
            else:
                tokens = tokenizer.render({"messages": [{"role": "user", "content": prompt}]})
        if not tokens:
            raise InspectError("the prompt is empty")
        answer = arguments.answer if arguments.answer is not None else 0 if arguments.raw else 64
        if answer:
            with Context(model, min(len(tokens) + answer + 1, model.max_context_length)) as context:
                context.append(tokens)
                list(context.generate(max_tokens=answer))
                tokens = context.tokens
        name = os.path.basename(os.path.abspath(arguments.model))
        return inspect_tokens(
            model, tokens, last=arguments.tokens, layer=arguments.layer, head=arguments.head, name=name
        )


def main(argv: Optional[list[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m gptoss.inspect", description=(__doc__ or "").split("\n\n", 1)[0].replace("\n", " ")
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="directory of a Hugging Face checkpoint, or a .gguf file")
    add("prompt", metavar="PROMPT", help="what the user says")
    add("-o", "--out", default="inspect", metavar="FOLDER", help="gets index.html and the PNGs (default: inspect)")
    add("--answer", type=int, metavar="N", help="tokens that the model may answer with (default: 64, with --raw none)")
    add("--raw", action="store_true", help="the prompt is any text, and not a user's message")
    add("--tokens", type=int, default=64, metavar="N", help="look at the last N tokens at most (default: 64)")
    add("--layer", type=int, help="of the head whose attention is shown (default: of the one whose sink's share varies most)")
    add("--head", type=int, help="the head whose attention is shown")
    add("--device", help="index or a part of the name of the device (default: the best)")
    add("--weights", default="default", choices=("default", "bf16", "q8"), help="dense weights in memory")
    arguments = parser.parse_args(argv)
    if arguments.tokens < 1 or (arguments.answer is not None and arguments.answer < 0):
        parser.error("--tokens is at least 1, and --answer at least 0")
    try:
        try:
            importlib.import_module("matplotlib.figure")
        except ImportError:
            raise InspectError("matplotlib is not installed: Debian has it as python3-matplotlib") from None
        from . import _inspect_page

        os.makedirs(arguments.out, exist_ok=True)  # before the work whose result it gets
        print(_inspect_page.write(inspect_prompt(arguments), arguments.out))
        return 0
    except (InspectError, GptossError, OSError) as error:
        print(f"gptoss.inspect: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
