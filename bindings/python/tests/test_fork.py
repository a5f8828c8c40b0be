"""What a process that was forked with a model may do: nothing with the model, and it ends as any other."""

import multiprocessing
import os
import threading
import unittest
import warnings

import gptoss
from gptoss import Context, InvalidStateError, Model, Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
TINY = os.environ.get("GPTOSS_TINY", os.path.join(HERE, "../../../tests/golden/tiny"))
PATIENCE = 60  # seconds


def in_child(model: Model, context: Context, tokenizer: Tokenizer, found: "multiprocessing.SimpleQueue[str]") -> None:
    for name, call in {
        "context": lambda: Context(model),
        "sample": lambda: context.sample(max_output_tokens=2),
        "append": lambda: context.append([1]),
        "devices": gptoss.devices,
        "model": lambda: Model(TINY),
    }.items():
        try:
            call()
            found.put(f"{name} succeeded")
        except InvalidStateError:
            found.put(name)
    found.put("tokens" if tokenizer.encode("Hello") else "no tokens")
    context.close()
    model.close()
    found.put("closed")


@unittest.skipUnless("fork" in multiprocessing.get_all_start_methods(), "no fork")
class Fork(unittest.TestCase):
    def test_multiprocessing(self) -> None:
        fork = multiprocessing.get_context("fork")
        tokenizer = Tokenizer()
        with Model(TINY) as model, Context(model) as context:
            context.append([5, 400, 17])
            before = context.sample(max_output_tokens=4, temperature=0.0)
            stop = threading.Event()

            def keep_busy() -> None:
                with Context(model) as other:
                    while not stop.is_set():
                        other.reset()
                        other.append([5, 400])
                        other.sample(max_output_tokens=4)

            busy = threading.Thread(target=keep_busy)
            busy.start()
            try:
                for _ in range(5):
                    found = fork.SimpleQueue()
                    child = fork.Process(target=in_child, args=(model, context, tokenizer, found))
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is the point
                        child.start()
                    child.join(PATIENCE)
                    alive = child.is_alive()
                    if alive:
                        child.kill()
                    self.assertFalse(alive, "the child hangs")
                    self.assertEqual(child.exitcode, 0)
                    expected = ["context", "sample", "append", "devices", "model", "tokens", "closed"]
                    self.assertEqual([found.get() for _ in expected], expected)
            finally:
                stop.set()
                busy.join()
            context.reset()
            context.append([5, 400, 17])
            self.assertEqual(context.sample(max_output_tokens=4, temperature=0.0), before)
        tokenizer.close()


if __name__ == "__main__":
    unittest.main()
