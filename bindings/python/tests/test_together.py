"""generate_together(), against the small random checkpoint tests/golden/tiny."""

import copy
import os
import signal
import subprocess
import sys
import threading
import time
import unittest
import weakref

import gptoss
from gptoss import Context, GenerateRequest, Model, Sampler, generate_together

HERE = os.path.dirname(os.path.abspath(__file__))
TINY = os.environ.get("GPTOSS_TINY", os.path.join(HERE, "../../../tests/golden/tiny"))
PROMPTS = [[5, 400, 17, 81, 3, 256], [9], [30] * 70, [1, 2, 3]]


class Together(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.model = Model(TINY)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.model.close()

    def contexts(self, count: int = len(PROMPTS)) -> list:
        contexts = [Context(self.model, context_length=200) for _ in range(count)]
        for context, prompt in zip(contexts, PROMPTS):
            context.append(prompt)
            self.addCleanup(context.close)
        return contexts

    def test_each_as_alone(self) -> None:
        sampler = Sampler(temperature=0.8, seed=7)
        expected = [
            list(context.generate(sampler if i % 2 else None, max_tokens=5 + i, stop_tokens=[]))
            for i, context in enumerate(self.contexts())
        ]
        contexts, heard = self.contexts(), []
        threads = set()

        def on_token(token: int) -> bool:
            heard.append(token)
            threads.add(threading.current_thread())
            return len(heard) == 4

        outcomes = generate_together(
            GenerateRequest(
                context, sampler if i % 2 else None, max_tokens=5 + i, stop_tokens=[], on_token=on_token if i == 3 else None
            )
            for i, context in enumerate(contexts)
        )
        for i, outcome in enumerate(outcomes[:3]):
            self.assertEqual((outcome.tokens, outcome.stop_reason, outcome.error), (expected[i], "max_tokens", None))
        self.assertEqual((outcomes[3].tokens, outcomes[3].stop_reason), (expected[3][:4], "callback"))
        self.assertEqual(outcomes[3].usage.generated_tokens, 4)
        self.assertEqual((heard, threads), (expected[3][:4], {threading.current_thread()}))
        for context, prompt, outcome in zip(contexts, PROMPTS, outcomes):
            self.assertEqual(context.tokens, prompt + outcome.tokens)
        # A stop token ends it, and so does a full context.
        contexts[0].truncate(len(PROMPTS[0]))
        stopped, full = generate_together(
            [GenerateRequest(contexts[0], stop_tokens=[expected[0][0]]), GenerateRequest(contexts[1], stop_tokens=[])]
        )
        self.assertEqual((stopped.tokens, stopped.stop_reason), (expected[0][:1], "stop_token"))
        self.assertEqual((contexts[1].num_tokens, full.stop_reason), (200, "context_full"))
        self.assertEqual(generate_together([]), [])

    def test_one_that_fails_fails_alone(self) -> None:
        contexts = self.contexts()
        contexts[1].reset()
        contexts[2].cancel()

        def on_token(token: int) -> None:
            raise KeyError(token)

        requests = [GenerateRequest(context, max_tokens=3, stop_tokens=[]) for context in contexts]
        requests[3].on_token = on_token
        fine, empty, cancelled, raised = generate_together(requests)
        self.assertEqual((len(fine.tokens), fine.error), (3, None))
        self.assertIsInstance(empty.error, gptoss.InvalidStateError)
        self.assertIn("append tokens first", str(empty.error))
        self.assertEqual((empty.tokens, empty.stop_reason), ([], "none"))
        self.assertIsInstance(cancelled.error, gptoss.CancelledError)
        self.assertIsInstance(raised.error, KeyError)
        self.assertEqual(len(raised.tokens), 1)
        self.assertEqual(contexts[3].tokens, PROMPTS[3] + raised.tokens)
        contexts[1].append(1)
        self.assertTrue(all(outcome.error is None for outcome in generate_together(requests[:3])))

    def test_a_callback_may_cancel_and_use_other_contexts(self) -> None:
        contexts = self.contexts()

        def on_token(_: int) -> bool:
            contexts[1].cancel()
            contexts[2].sample(1)
            with self.assertRaises(gptoss.InvalidStateError):
                contexts[1].append(1)
            return True

        first, second = generate_together(
            [GenerateRequest(contexts[0], on_token=on_token, stop_tokens=[]), GenerateRequest(contexts[1], stop_tokens=[])]
        )
        self.assertEqual((first.stop_reason, first.error), ("callback", None))
        self.assertIsInstance(second.error, gptoss.CancelledError)
        self.assertEqual(contexts[2].num_tokens, len(PROMPTS[2]) + 1)

    def test_what_is_refused(self) -> None:
        contexts = self.contexts()
        sizes = [context.num_tokens for context in contexts]
        one = GenerateRequest(contexts[0], max_tokens=1)
        for bad in (
            contexts[1],
            GenerateRequest(self.model),
            GenerateRequest(contexts[1], sampler=1.0),
        ):
            with self.assertRaises(TypeError):
                generate_together([one, bad])
        closed = Context(self.model)
        closed.close()
        for bad in (
            GenerateRequest(contexts[0]),
            GenerateRequest(copy.copy(contexts[0])),
            GenerateRequest(contexts[1], max_tokens=0),
            GenerateRequest(closed),
        ):
            with self.assertRaises(ValueError):
                generate_together([one, bad])
        with Model(TINY) as other, Context(other) as foreign:
            foreign.append(1)
            with self.assertRaisesRegex(ValueError, "one model"):
                generate_together([one, GenerateRequest(foreign)])
        with contexts[1].generate(stop_tokens=[]):
            with self.assertRaises(gptoss.InvalidStateError):
                generate_together([one, GenerateRequest(contexts[1])])
        self.assertEqual([context.num_tokens for context in contexts], sizes)
        self.assertEqual(len(generate_together([one])[0].tokens), 1)

    def test_nothing_is_kept(self) -> None:
        context = self.contexts(1)[0].fork()
        gone = weakref.ref(context)
        generate_together([GenerateRequest(context, max_tokens=2, on_token=lambda _: None)])
        del context
        self.assertIsNone(gone())

    def test_keyboard_interrupt(self) -> None:
        for on_token in ("None", "lambda token: None"):
            with self.subTest(on_token=on_token):
                process = subprocess.Popen(
                    [sys.executable, "-c", INTERRUPTED.format(on_token)],
                    env={**os.environ, "TINY": TINY},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                assert process.stdout is not None
                self.assertEqual(process.stdout.readline(), "ready\n")
                time.sleep(0.3)
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=60)
                self.assertEqual((process.returncode, out, err), (0, "stopped\n", ""))


INTERRUPTED = """
import os, signal, gptoss
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the test runs in the background
model = gptoss.Model(os.environ['TINY'])
contexts = [gptoss.Context(model) for _ in range(3)]
for context in contexts:
    context.append([1, 2, 3])
    context.process()
print('ready', flush=True)
try:
    while True:
        gptoss.generate_together([gptoss.GenerateRequest(c, stop_tokens=[], on_token={}) for c in contexts])
        for context in contexts: context.truncate(3)
except KeyboardInterrupt:
    for context in contexts: context.sample(1)
    print('stopped')
"""


if __name__ == "__main__":
    unittest.main()
