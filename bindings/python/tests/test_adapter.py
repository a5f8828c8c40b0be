"""LoRA adapters over the checkpoint tests/golden/tiny."""

import os
import unittest

from gptoss import Adapter, Context, FileError, GenerateRequest, InvalidArgumentError, InvalidStateError, Model, generate_together

HERE = os.path.dirname(os.path.abspath(__file__))
TINY = os.environ.get("GPTOSS_TINY", os.path.join(HERE, "../../../tests/golden/tiny"))
EXPERTS = os.path.join(TINY, "../adapters/experts")


class Adapters(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.model = Model(TINY, adapters=[EXPERTS])

    @classmethod
    def tearDownClass(cls) -> None:
        cls.model.close()

    def context(self) -> Context:
        context = Context(self.model, 64)
        context.append([5, 400, 17, 81])
        self.addCleanup(context.close)
        return context

    def test_a_context_with_an_adapter_and_without(self) -> None:
        context = self.context()
        without = bytes(context.logits())
        with Adapter(self.model, EXPERTS) as adapter:
            self.assertEqual(adapter.info.rank, 4)
            self.assertGreater(adapter.info.device_bytes, 0)
            context.set_adapter(adapter)
        with_it = bytes(context.logits())
        self.assertNotEqual(with_it, without)
        self.assertEqual(context.tokens, [5, 400, 17, 81])
        context.set_adapter(None)
        self.assertEqual(bytes(context.logits()), without)

    def test_contexts_with_several_together(self) -> None:
        adapter = Adapter(self.model, EXPERTS)
        alone, together = [], []
        for scale in (1.0, None, -0.5):
            for results in (alone, together):
                context = self.context()
                if scale is not None:
                    context.set_adapter(adapter, scale)
                results.append(context)
        for context in alone:
            context.sample(6, temperature=0.0)
        generate_together([GenerateRequest(context, max_tokens=6, stop_tokens=[]) for context in together])
        self.assertEqual([c.tokens for c in together], [c.tokens for c in alone])

    def test_the_estimate_counts_them(self) -> None:
        with Adapter(self.model, EXPERTS) as adapter:
            estimate = Model.estimate_memory(TINY, adapters=[EXPERTS])
            self.assertEqual(estimate.adapter_bytes, adapter.info.device_bytes)
        self.assertEqual(Model.estimate_memory(TINY).adapter_bytes, 0)

    def test_errors(self) -> None:
        with self.assertRaisesRegex(FileError, "adapter_config.json"):
            Adapter(self.model, TINY)
        with self.assertRaises(TypeError):
            Adapter(EXPERTS, EXPERTS)  # type: ignore[arg-type]
        context = self.context()
        with self.assertRaises(TypeError):
            context.set_adapter(EXPERTS)  # type: ignore[arg-type]
        adapter = Adapter(self.model, EXPERTS)
        with self.assertRaisesRegex(InvalidArgumentError, "scale"):
            context.set_adapter(adapter, float("nan"))
        adapter.close()
        with self.assertRaises(InvalidStateError):
            context.set_adapter(adapter)


if __name__ == "__main__":
    unittest.main()
