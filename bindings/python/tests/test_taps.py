"""What taps hand to Python, beside what the library says of the same tokens elsewhere."""

import math
import os
import sys
import unittest
from unittest import mock

from gptoss import CancelledError, Context, InvalidArgumentError, Model, Tapped, generate_together, GenerateRequest

HERE = os.path.dirname(os.path.abspath(__file__))
TINY = os.environ.get("GPTOSS_TINY", os.path.join(HERE, "../../../tests/golden/tiny"))
PROMPT = [5, 400, 17, 81, 3, 256]


def rows(values):
    """As nested lists, of a numpy array and of a memoryview."""
    return values.tolist()


class TapTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = Model(TINY)

    @classmethod
    def tearDownClass(cls):
        cls.model.close()

    def context(self):
        context = Context(self.model, 256)
        context.append(PROMPT)
        return context

    def test_all_kinds(self):
        context = self.context()
        with context.tap("embedding", "hidden", "final", "router", "experts", "attention") as taps:
            tokens = context.sample(4, temperature=0)
        self.assertEqual([item.position for item in taps.items if item.kind == "final"], list(range(9)))
        layers = self.model.info.num_layers
        for kind in ("hidden", "router", "experts", "attention"):
            self.assertEqual(len(taps.find(kind)), 9 * layers)
            self.assertEqual(len(taps.find(kind, layer=2)), 9)
            self.assertEqual(len(taps.find(kind, layer=2, position=3)), 1)
        self.assertEqual(len(taps.find("embedding")), 9)
        for router, experts in zip(map(rows, taps.find("router")), map(rows, taps.find("experts"))):
            chosen = sorted(range(8), key=lambda e: (-router[e], e))[:4]
            self.assertEqual(experts[0], chosen)
            self.assertAlmostEqual(sum(experts[1]), 1, places=5)
        attention = rows(taps.find("attention", layer=1, position=8)[0])
        self.assertEqual((len(attention), len(attention[0])), (8, 9))
        self.assertTrue(all(0 < sum(row) < 1 for row in attention))
        norm = math.sqrt(sum(x * x for x in rows(taps.find("hidden", layer=3, position=8)[0])))
        self.assertGreater(norm, 0)
        # nothing more comes once the tap is removed, and the tokens are those without one
        count = len(taps.items)
        context.sample(2)
        self.assertEqual(len(taps.items), count)
        self.assertEqual(tokens, self.context().sample(4, temperature=0))
        with self.assertRaisesRegex(ValueError, "no kind 'logits'"):
            taps.find("logits")

    def test_chosen_layers_and_positions(self):
        context = self.context()
        taps = context.tap("hidden", layers=[1, 3], positions=[0, 5, 7])
        context.sample(4)
        self.assertEqual([(t.layer, t.position) for t in taps.items], [(1, 0), (3, 0), (1, 5), (3, 5), (1, 7), (3, 7)])
        taps = context.tap("final", first_position=8)
        context.process()  # what is computed already is computed again
        self.assertEqual([t.position for t in taps.items], [8, 9])
        for layers in ([], None):
            taps = context.tap("hidden", layers=layers, positions=[9])
            context.process()
            self.assertEqual(len(taps.items), 0 if layers == [] else 4)

    def test_on_tap_and_what_it_raises(self):
        context = self.context()
        seen = []

        def on_tap(tapped: Tapped) -> None:
            if tapped.position == 7:
                raise KeyError("enough")
            seen.append(tapped.position)

        context.tap("final", on_tap=on_tap)
        with self.assertRaisesRegex(KeyError, "enough"):
            context.sample(4)
        self.assertEqual(seen, list(range(7)))
        with self.assertRaisesRegex(KeyError, "enough"):
            list(context.generate(max_tokens=3))
        with self.assertRaisesRegex(KeyError, "enough"):
            generate_together([GenerateRequest(context, max_tokens=3), GenerateRequest(self.context(), max_tokens=1)])
        context.cancel()
        with self.assertRaises(CancelledError):
            context.process()

    def test_numpy_without_copies(self):
        try:
            import numpy
        except ImportError:
            self.skipTest("there is no numpy")
        context = self.context()
        with context.tap("hidden", "final") as taps:
            context.process()
        values = taps.find("hidden", layer=0)
        self.assertIsInstance(values[0], numpy.ndarray)
        self.assertEqual((numpy.stack(values).shape, values[0].dtype), ((6, 96), numpy.float32))
        shared = numpy.from_dlpack(values[0])
        self.assertTrue(numpy.shares_memory(shared, values[0]))
        other = self.context()
        with mock.patch.dict(sys.modules, {"numpy": None}), other.tap("hidden") as plain:
            other.process()
        view = plain.find("hidden", layer=0)[0]
        self.assertIsInstance(view, memoryview)
        self.assertEqual((view.format, view.shape), ("f", (96,)))
        self.assertEqual(view.tolist(), values[0].tolist())
        self.assertTrue(numpy.shares_memory(numpy.asarray(view), numpy.asarray(view)))

    def test_embeddings(self):
        texts = ["!", [5, 400, 17], b"a"]
        vectors = self.model.embed(texts)
        self.assertEqual(vectors.shape, (3, 96))
        for row in rows(vectors):
            self.assertAlmostEqual(sum(x * x for x in row), 1, places=5)
        context = Context(self.model, 10)
        context.append([5, 400, 17])
        with context.tap("final") as taps:
            context.process()
        last = rows(taps.find("final")[2])
        raw = rows(self.model.embed(texts, normalize=False))
        for got, expected in zip(raw[1], last):
            self.assertAlmostEqual(got, expected, places=4)
        mean = rows(self.model.embed(texts, pooling="mean", normalize=False))
        states = [rows(state) for state in taps.find("final")]
        for i, got in enumerate(mean[1]):
            self.assertAlmostEqual(got, sum(state[i] for state in states) / 3, places=4)
        self.assertEqual(len(self.model.embed([])), 0)
        with mock.patch.dict(sys.modules, {"numpy": None}):
            plain = self.model.embed(texts, normalize=False)
        self.assertEqual((type(plain), plain.tolist()), (memoryview, raw))
        with self.assertRaisesRegex(TypeError, "one text"):
            self.model.embed("Hello")
        with self.assertRaisesRegex(ValueError, "pooling is 'max'"):
            self.model.embed(texts, pooling="max")
        with self.assertRaisesRegex(InvalidArgumentError, "text 1: it has no token"):
            self.model.embed(["a", ""])

    def test_unembedding(self):
        context = self.context()
        with context.tap("hidden", layers=[0, 3]) as taps:
            logits = list(context.logits())
        last = taps.find("hidden", layer=3, position=5)[0]
        rows_of_logits = rows(self.model.unembed([taps.find("hidden", layer=0, position=5)[0], last]))
        self.assertEqual([len(row) for row in rows_of_logits], [512, 512])
        for got, expected in zip(rows_of_logits[1], logits):
            self.assertAlmostEqual(got, expected, places=4)
        self.assertGreater(max(abs(a - b) for a, b in zip(rows_of_logits[0], logits)), 0.1)
        with mock.patch.dict(sys.modules, {"numpy": None}):
            plain = self.model.unembed([rows(last)])
        self.assertEqual((type(plain), plain.tolist()), (memoryview, [rows_of_logits[1]]))
        self.assertEqual(len(self.model.unembed([])), 0)
        with self.assertRaisesRegex(InvalidArgumentError, r"states\[1\] has 95 values: a state has 96"):
            self.model.unembed([last, rows(last)[1:]])

    def test_refused(self):
        context = self.context()
        with self.assertRaisesRegex(ValueError, "no kind 'logits'"):
            context.tap("logits")
        with self.assertRaisesRegex(InvalidArgumentError, "kinds is 0"):
            context.tap()
        with self.assertRaisesRegex(InvalidArgumentError, r"layers\[1\] is 4"):
            context.tap("hidden", layers=[0, 4])
        with self.assertRaisesRegex(OverflowError, "positions has -1"):
            context.tap("hidden", positions=[-1])
        with self.assertRaisesRegex(ValueError, "first_position"):
            context.tap("hidden", first_position=-1)
        taps = context.tap("final")
        context.close()
        taps.close()


if __name__ == "__main__":
    unittest.main()
