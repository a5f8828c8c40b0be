"""The page and the pictures of gptoss.inspect."""

from __future__ import annotations

import base64
import html
import importlib
import io
import math
import os
import warnings
from typing import Any, Callable, Iterator

from .inspect import Inspection

# by name, since they are optional and have no types everywhere
numpy: Any = importlib.import_module("numpy")
Figure: Any = importlib.import_module("matplotlib.figure").Figure
FigureCanvasAgg: Any = importlib.import_module("matplotlib.backends.backend_agg").FigureCanvasAgg

Theme = dict[str, str]
LIGHT: Theme = {"page": "#ffffff", "text": "#1c1e21", "faint": "#b9bec6", "map": "Blues", "one": "#2f6fab"}
DARK: Theme = {"page": "#16181d", "text": "#e4e6ea", "faint": "#4b5059", "map": "magma", "one": "#7db4ea"}
MOST_CELLS = 40  # tokens that a picture of cells with text has; the page has them all


def plain(text: str) -> str:
    """For matplotlib, to which two dollars would be a formula."""
    return text.replace("$", r"\$")


class Picture:
    """A figure in a theme, with its axes."""

    def __init__(self, theme: Theme, width: float, height: float, rows: int = 1, **options: Any) -> None:
        self.theme = theme
        self.figure = Figure(figsize=(width, height), facecolor=theme["page"], constrained_layout=True)
        FigureCanvasAgg(self.figure)
        self.axes = self.figure.subplots(rows, 1, squeeze=False, **options)[:, 0]
        for axes in self.axes:
            axes.set_facecolor(theme["page"])
            axes.tick_params(colors=theme["text"], labelsize=7)
            for spine in axes.spines.values():
                spine.set_color(theme["faint"])

    def name(self, axes: Any, x: str, y: str, title: str = "") -> None:
        for set_text, text in ((axes.set_xlabel, x), (axes.set_ylabel, y), (axes.set_title, title)):
            set_text(text, color=self.theme["text"], fontsize=8)

    def image(self, axes: Any, values: Any, of: str, least: float = 0, most: Any = None) -> None:
        drawn = axes.imshow(
            values, aspect="auto", interpolation="nearest", cmap=self.theme["map"], vmin=least, vmax=most, origin="lower"
        )
        bar = self.figure.colorbar(drawn, ax=axes, pad=0.01)
        bar.ax.tick_params(colors=self.theme["text"], labelsize=7)
        bar.outline.set_edgecolor(self.theme["faint"])
        bar.set_label(of, color=self.theme["text"], fontsize=8)

    def tokens(self, axes: Any, labels: list[str]) -> None:
        axes.set_xticks(range(len(labels)))
        axes.set_xticklabels([plain(text) for text in labels], rotation=90, fontsize=6, color=self.theme["text"])

    def png(self) -> bytes:
        out = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a font lacks the letters of a token
            self.figure.savefig(out, format="png", dpi=110, facecolor=self.theme["page"])
        return out.getvalue()


def _width(count: int) -> float:
    return 3 + max(5.0, 0.16 * count)


def experts_picture(of: Inspection, theme: Theme) -> bytes:
    tokens, layers, k = of.experts.shape
    rows = layers * of.num_experts
    picture = Picture(theme, _width(tokens), 3.4 + min(12, 0.11 * rows), 2, gridspec_kw={"height_ratios": [2, 1]})
    used = numpy.zeros((rows, tokens))
    for layer in range(layers):
        for j in range(k):
            used[layer * of.num_experts + of.experts[:, layer, j], numpy.arange(tokens)] = of.weights[:, layer, j]
    top, bottom = picture.axes
    picture.image(top, used, "weight", 0, 1)
    for layer in range(1, layers):
        top.axhline(layer * of.num_experts - 0.5, color=theme["faint"], linewidth=0.6)
    top.set_yticks([layer * of.num_experts + (of.num_experts - 1) / 2 for layer in range(layers)])
    top.set_yticklabels(range(layers))
    picture.name(top, "", "layer: its experts, from 0 upwards")
    picture.tokens(top, of.labels)
    shares = (used > 0).reshape(layers, of.num_experts, tokens).mean(axis=2)
    picture.image(bottom, shares, "share of tokens", 0, 1)
    bottom.set_xticks(range(0, of.num_experts, max(1, of.num_experts // 16)))
    bottom.set_yticks(range(0, layers, max(1, layers // 8)))
    picture.name(bottom, "expert", "layer")
    return picture.png()


def router_picture(of: Inspection, theme: Theme) -> bytes:
    tokens, layers = of.entropy.shape
    picture = Picture(theme, _width(tokens), 2.2 + 0.16 * layers)
    axes = picture.axes[0]
    picture.image(axes, of.entropy.T, "bits", 0, math.log2(of.num_experts) or 1)
    picture.tokens(axes, of.labels)
    axes.set_yticks(range(0, layers, max(1, layers // 8)))
    picture.name(axes, "", "layer")
    return picture.png()


def lens_picture(of: Inspection, theme: Theme) -> bytes:
    tokens, layers, _ = of.lens.shape
    begin = max(0, tokens - MOST_CELLS)
    picture = Picture(theme, 2 + 0.62 * (tokens - begin), 1.6 + 0.26 * layers)
    axes = picture.axes[0]
    chances = of.lens_probabilities[begin:, :, 0].T
    picture.image(axes, chances, "probability", 0, 1)
    for at in range(begin, tokens):
        for layer in range(layers):
            light = (chances[layer, at - begin] < 0.5) == (theme is LIGHT)
            text = of.vocabulary[int(of.lens[at, layer, 0])][:8]
            color = "#1c1e21" if light else "#ffffff"
            axes.text(at - begin, layer, plain(text), ha="center", va="center", fontsize=6, color=color, clip_on=True)
    picture.tokens(axes, of.labels[begin:])
    axes.set_yticks(range(0, layers, max(1, layers // 16)))
    picture.name(axes, "the token before what is said", "after layer")
    return picture.png()


def attention_picture(of: Inspection, theme: Theme) -> bytes:
    tokens, keys = of.attention.shape
    side = _width(max(tokens, keys)) * 0.7
    picture = Picture(theme, side + 1, side + 3, 3, gridspec_kw={"height_ratios": [side, 1.2, 1.4]})
    top, middle, bottom = picture.axes
    picture.image(top, of.attention, "probability", 0, 1)
    top.set_yticks(range(tokens))
    top.set_yticklabels([plain(text) for text in of.labels], fontsize=6, color=theme["text"])
    top.invert_yaxis()
    shown = [str(i) if i % 10 == 0 else "" for i in range(of.first)] + of.labels
    picture.tokens(top, shown)
    picture.name(top, "attended to", "token", f"layer {of.layer}, head {of.head}")
    middle.bar(range(tokens), of.sinks[:, of.layer, of.head], color=theme["one"])
    middle.set_ylim(0, 1)
    middle.set_xlim(-0.5, tokens - 0.5)
    picture.name(middle, "token", "sink's share", "of that head")
    picture.image(bottom, of.sinks.mean(axis=0), "sink's share", 0, 1)
    layers, heads = of.sinks.shape[1:]
    bottom.set_xticks(range(0, heads, max(1, heads // 16)))
    bottom.set_yticks(range(0, layers, max(1, layers // 8)))
    picture.name(bottom, "head", "layer", "of all heads, mean over the tokens")
    return picture.png()


def logprobs_picture(of: Inspection, theme: Theme) -> bytes:
    picture = Picture(theme, _width(len(of.tokens)), 3)
    axes = picture.axes[0]
    axes.bar(range(len(of.tokens)), [value or 0 for value in of.logprobs], color=theme["one"])
    axes.set_xlim(-0.5, len(of.tokens) - 0.5)
    picture.tokens(axes, of.labels)
    picture.name(axes, "", "log-probability")
    return picture.png()


PICTURES: dict[str, tuple[Callable[[Inspection, Theme], bytes], str]] = {
    "logprobs": (logprobs_picture, "Log-probability of each token, after those before it"),
    "experts": (experts_picture, "Experts of each token, by their weight, and how many of the tokens use each"),
    "router": (router_picture, "Entropy of the routers' distributions over all experts: 0 where a router is sure"),
    "lens": (lens_picture, "What the residual after each layer stands for: its likeliest token"),
    "attention": (attention_picture, "Attention of a head, and what its sink gets of it"),
}

STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --text: #1c1e21; --faint: #b9bec6; --tint: 47, 111, 171; --warm: 205, 92, 40; }
@media (prefers-color-scheme: dark) { :root { --page: #16181d; --text: #e4e6ea; --faint: #4b5059; --tint: 90, 150, 215; --warm: 215, 110, 60; } }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; background: var(--page); color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.scroll { overflow-x: auto; } .scroll img { display: block; min-width: 40rem; width: 100%; }
.text span { white-space: pre-wrap; border-radius: 0.2rem; font-family: ui-monospace, monospace; overflow-wrap: anywhere; }
table { border-collapse: collapse; font: 0.75rem ui-monospace, monospace; }
td, th { padding: 0.15rem 0.35rem; border: 1px solid var(--faint); white-space: pre; max-width: 9rem; overflow: hidden; text-overflow: ellipsis; }
th:first-child { position: sticky; left: 0; background: var(--page); }
p.note { font-size: 0.85rem; opacity: 0.8; }
"""


def escape(text: str) -> str:
    return html.escape(text, quote=True)


def _text(of: Inspection) -> Iterator[str]:
    """The text, the warmer the less its tokens were expected."""
    for text, value, top in zip(of.labels, of.logprobs, of.top):
        if value is None:
            yield f'<span title="the first token">{escape(text)}</span>'
            continue
        likely = ", ".join(f"{of.vocabulary[token]!r} {math.exp(chance):.1%}" for token, chance in top)
        title = escape(f"{math.exp(value):.2%}, log-probability {value:.3f}; likeliest: {likely}")
        shade = min(1.0, -value / 8)
        yield f'<span style="background: rgba(var(--warm), {shade:.2f})" title="{title}">{escape(text)}</span>'
        if "↵" in text:
            yield "<br>"


def _lens(of: Inspection) -> Iterator[str]:
    yield '<table><tr><th scope="col">after layer</th>'
    for text in of.labels:
        yield f'<th scope="col">{escape(text)}</th>'
    for layer in reversed(range(of.lens.shape[1])):
        yield f'</tr><tr><th scope="row">{layer}</th>'
        for tokens, chances in zip(of.lens[:, layer], of.lens_probabilities[:, layer]):
            told = [(of.vocabulary[int(token)], float(chance)) for token, chance in zip(tokens, chances)]
            title = escape(", ".join(f"{text!r} {chance:.1%}" for text, chance in told))
            shade = f"background: rgba(var(--tint), {0.75 * told[0][1]:.2f})"
            yield f'<td style="{shade}" title="{title}">{escape(told[0][0])}</td>'
    yield "</tr></table>"


def page(of: Inspection, pictures: dict[str, tuple[bytes, bytes]]) -> str:
    def picture(name: str) -> str:
        light, dark = ("data:image/png;base64," + base64.b64encode(png).decode() for png in pictures[name])
        title = escape(PICTURES[name][1])
        return (
            f'<h2>{title}</h2><div class="scroll"><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
            f'<img src="{light}" alt="{title}"></picture></div>'
        )

    scored = [value for value in of.logprobs if value is not None]
    sum_up = f"{len(of.tokens)} tokens from number {of.first} on, on {of.device}."
    if scored:
        sum_up += f" Their log-probability is {sum(scored):.3f}, the perplexity {math.exp(-sum(scored) / len(scored)):.3f}."
    return "".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; ",
            "style-src 'unsafe-inline'\">",
            f"<title>Inside {escape(of.model)}</title><style>{STYLE}</style></head><body>",
            f"<h1>Inside {escape(of.model)}</h1><p>{escape(sum_up)}</p>",
            '<h2>The text</h2><p class="text">',
            *_text(of),
            '</p><p class="note">The warmer, the less it was expected. Point at a token to see what was.</p>',
            picture("logprobs"),
            "<h2>What the model would say after each layer</h2>",
            '<p class="note">The final norm and the unembedding of the residual after a layer, the last one on top: its '
            "likeliest token after the one that heads the column, the bluer the likelier. Point at one to see the next "
            'likeliest.</p><div class="scroll">',
            *_lens(of),
            "</div>",
            *(picture(name) for name in ("experts", "router", "attention")),
            "</body></html>\n",
        ]
    )


def write(of: Inspection, folder: str) -> str:
    """Writes the pictures in light colours as NAME.png, and the page, which holds them in both. Its path."""
    pictures = {name: (draw(of, LIGHT), draw(of, DARK)) for name, (draw, _) in PICTURES.items()}
    for name, (light, _) in pictures.items():
        with open(os.path.join(folder, name + ".png"), "wb") as file:
            file.write(light)
    path = os.path.join(folder, "index.html")
    with open(path, "w", encoding="utf-8") as file:
        file.write(page(of, pictures))
    return path
