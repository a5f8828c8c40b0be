"""python -m gptoss.inspect with gptoss-nano, beside what the library says of the same tokens elsewhere."""

import contextlib
import html.parser
import io
import math
import os
import sys
import tempfile
import unittest
from unittest import mock

from gptoss import Context, Model
from gptoss import inspect as tool

HERE = os.path.dirname(os.path.abspath(__file__))
NANO = os.environ.get("GPTOSS_NANO", os.path.join(HERE, "../../../nano/gptoss-nano"))
PICTURES = ["attention", "experts", "lens", "logprobs", "router"]
try:
    import matplotlib  # noqa: F401

    HAS_MATPLOTLIB = True
except ImportError:
    HAS_MATPLOTLIB = False


class Elements(html.parser.HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.addresses, self.handlers, self.text, self.kept = set(), [], [], "", []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "srcset", "href", "action", "data")]
        self.handlers += [name for name, _ in attributes if name.startswith("on")]

    def handle_data(self, data):
        self.text += data


def run(*arguments):
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        status = tool.main([NANO, *arguments])
    return status, out.getvalue(), errors.getvalue()


class WithoutMatplotlibTest(unittest.TestCase):
    def test_says_what_is_missing(self):
        with tempfile.TemporaryDirectory() as folder, mock.patch.dict(sys.modules, {"matplotlib.figure": None}):
            out = os.path.join(folder, "out")
            status, _, errors = run("What is 15 + 23?", "-o", out)
            self.assertEqual(status, 1)
            self.assertIn("matplotlib is not installed", errors)
            self.assertFalse(os.path.exists(out))

    def test_labels(self):
        for text, expected in (
            (b" 15", " 15"),
            (b"a\nb\t", "a↵b⇥"),
            (b"\x1b[31m", "\\u{1b}[31m"),
            ("\u202e".encode(), "\\u{202e}"),
            (b"\xff", "\ufffd"),
        ):
            self.assertEqual(tool.label(text), expected)


@unittest.skipUnless(HAS_MATPLOTLIB, "there is no matplotlib")
class InspectTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = Model(NANO)

    @classmethod
    def tearDownClass(cls):
        cls.model.close()

    def test_numbers_are_the_model_s(self):
        import numpy

        tokens = self.model.tokenizer.render({"messages": [{"role": "user", "content": "What is 15 + 23?"}]})
        for last in (100, 5):
            of = tool.inspect_tokens(self.model, tokens, last=last, layer=3, head=1)
            count = min(last, len(tokens))
            self.assertEqual((of.first, of.tokens), (len(tokens) - count, tokens[-count:]))
            context = Context(self.model, 100)
            context.append(tokens)
            logits = numpy.asarray(context.logits())
            # after the last layer of the last token, the lens is the model's own distribution
            chances = tool.softmax(logits)
            self.assertEqual(of.lens[-1, -1].tolist(), numpy.argsort(-logits, kind="stable")[:5].tolist())
            for token, chance in zip(of.lens[-1, -1], of.lens_probabilities[-1, -1]):
                self.assertAlmostEqual(chance, chances[token], places=4)
            # and of the others what its log-probabilities say of the next token
            begin = len(tokens) - count + 1
            values, tops = context.logprobs(begin, count - 1, 1)
            for i, (value, top) in enumerate(zip(values, tops)):
                self.assertAlmostEqual(of.logprobs[i + 1], value, places=4)
                self.assertEqual(of.lens[i, -1, 0], top[0][0])
                self.assertAlmostEqual(of.lens_probabilities[i, -1, 0], math.exp(top[0][1]), places=4)
            self.assertEqual(of.logprobs[0] is None, count == len(tokens))
            with context.tap("router", "attention", layers=[3], first_position=of.first) as taps:
                context.process()
            for at, position in enumerate(range(of.first, len(tokens))):
                router = tool.softmax(taps.find("router", position=position)[0])
                self.assertEqual(of.experts[at, 3].tolist(), numpy.argsort(-router, kind="stable")[:2].tolist())
                self.assertAlmostEqual(of.entropy[at, 3], -sum(p * math.log2(p) for p in router), places=4)
                row = taps.find("attention", position=position)[0][1]
                self.assertTrue(numpy.array_equal(of.attention[at, : position + 1], row))
                self.assertEqual(of.attention[at, position + 1 :].tolist(), [0] * (len(tokens) - position - 1))
                self.assertAlmostEqual(of.sinks[at, 3, 1], 1 - row.sum(), places=5)
            self.assertTrue(numpy.allclose(of.weights.sum(axis=2), 1, atol=1e-5))
            context.close()

    def test_page_and_pictures(self):
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "a", "b")
            status, said, errors = run("What is 15 + 23?", "-o", out)
            self.assertEqual((status, errors, said), (0, "", os.path.join(out, "index.html") + "\n"))
            self.assertEqual(sorted(os.listdir(out)), sorted([name + ".png" for name in PICTURES] + ["index.html"]))
            for name in PICTURES:
                with open(os.path.join(out, name + ".png"), "rb") as file:
                    self.assertEqual(file.read(8), b"\x89PNG\r\n\x1a\n")
            with open(os.path.join(out, "index.html"), encoding="utf-8") as file:
                page = Elements(file.read())
            self.assertIn("15 + 23 = 38.", page.text)
            self.assertTrue(page.addresses)
            self.assertTrue(all(address.startswith("data:image/png;base64,") for address in page.addresses))
            self.assertFalse(page.tags & {"script", "link", "iframe"})

    def test_hostile_text(self):
        hostile = "<script>alert(1)</script><img src=x onerror='alert(1)'> $\\frac{1}{$ \u202e\x1b[31m\n& \" \ud800 中"
        with tempfile.TemporaryDirectory() as folder:
            status, _, errors = run(hostile, "-o", folder, "--raw", "--tokens", "100")
            self.assertEqual((status, errors), (0, ""))
            with open(os.path.join(folder, "index.html"), encoding="utf-8") as file:
                text = file.read()
            page = Elements(text)
            self.assertFalse(page.tags & {"script", "link", "iframe"})
            self.assertEqual(page.handlers, [])
            self.assertTrue(all(address.startswith("data:image/png;base64,") for address in page.addresses))
            self.assertIn("<script>alert(1)</script><img src=x onerror='alert(1)'> $\\frac{1}{$", page.text)
            for character in "\u202e\x1b":
                self.assertNotIn(character, text)

    def test_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            for arguments, message in (
                (["", "--raw"], "the prompt is empty"),
                (["Hello", "--layer", "4"], "layer 4: the model has 4"),
                (["Hello", "--head", "-1"], "head -1: the model has 4"),
            ):
                status, _, errors = run(*arguments, "-o", folder)
                self.assertEqual(status, 1)
                self.assertIn(message, errors)
            taken = os.path.join(folder, "file")
            open(taken, "w").close()
            status, _, errors = run("Hello", "-o", taken)
            self.assertEqual((status, "File exists" in errors), (1, True))
            with self.assertRaises(SystemExit):
                run("Hello", "--tokens", "0")


if __name__ == "__main__":
    unittest.main()
