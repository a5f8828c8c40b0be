"""Against the small random checkpoint tests/golden/tiny, whose vocabulary has 512 tokens."""

import asyncio
import copy
import errno
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import unittest
import unittest.mock

import gptoss
from gptoss import Context, HarmonyParser, Model, Sampler, Tokenizer
from gptoss._library import lib

HERE = os.path.dirname(os.path.abspath(__file__))
TINY = os.environ.get("GPTOSS_TINY", os.path.join(HERE, "../../../tests/golden/tiny"))
NANO = os.environ.get("GPTOSS_NANO", os.path.join(HERE, "../../../nano/gptoss-nano"))
PROMPT = [5, 400, 17, 81, 3, 256]


class WithModel(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.model = Model(TINY)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.model.close()

    def context(self, **options) -> Context:
        context = Context(self.model, **options)
        context.append(PROMPT)
        self.addCleanup(context.close)
        return context


class Compatible(WithModel):
    """The calls that programs for gpt_oss.metal make."""

    def test_token_by_token(self) -> None:
        expected = self.context().sample(max_output_tokens=8, temperature=0.0)
        context = self.context(context_length=64)
        sampled = []
        while context.num_tokens - len(PROMPT) < 8:
            token = context.sample(temperature=0.0)
            self.assertIsInstance(token, int)
            context.append(token)
            sampled.append(token)
        self.assertEqual(sampled, expected)
        self.assertEqual(context.tokens, PROMPT + expected)

    def test_a_server_that_sends_every_token_again(self) -> None:
        context, tokens, seen = Context(self.model), list(PROMPT), []
        for _ in range(3):
            context.reset()
            for token in tokens:
                context.append(token)
            output = context.sample(max_output_tokens=5, temperature=0.7, seed=0)
            self.assertEqual(len(output), 5)
            tokens.append(output.pop(0))
            seen.append(tokens[-1])
        self.assertEqual(seen, self.context().sample(3, temperature=0.7, seed=0))

    def test_defaults_and_properties(self) -> None:
        context = Context(self.model, context_length=0, max_batch_tokens=0)
        self.assertEqual(context.max_tokens, self.model.max_context_length)
        self.assertEqual(Context(self.model, context_length=64).max_tokens, 64)
        self.assertEqual((context.num_tokens, context.tokens), (0, []))
        context.process()
        tokenizer = self.model.tokenizer
        self.assertEqual(tokenizer.encode_special_token("<|start|>"), 200006)
        self.assertEqual(tokenizer.decode(tokenizer.encode("word")[0]), b"word")
        self.assertEqual(tokenizer.num_text_tokens, 199998)
        self.assertEqual(tokenizer.num_tokens, tokenizer.num_text_tokens + tokenizer.num_special_tokens)
        with self.assertRaises(ValueError):
            tokenizer.encode_special_token("<|nothing|>")
        with self.assertRaises(ValueError):
            tokenizer.decode(token=200006)

    def test_copies_share(self) -> None:
        context = self.context()
        other = copy.copy(context)
        other.append(7)
        self.assertEqual(context.tokens, PROMPT + [7])
        context.close()
        self.assertEqual(other.num_tokens, len(PROMPT) + 1)
        model = copy.copy(self.model)
        self.assertEqual(model.max_context_length, self.model.max_context_length)
        model.close()
        self.assertEqual(Tokenizer(self.model).num_text_tokens, copy.copy(self.model.tokenizer).num_text_tokens)


class Idiomatic(WithModel):
    def test_generate(self) -> None:
        expected = self.context().sample(20, temperature=0.0)
        context = self.context()
        generation = context.generate(max_tokens=20, stop_tokens=[])
        self.assertEqual(list(generation), expected)
        self.assertEqual(generation.stop_reason, "max_tokens")
        self.assertEqual(list(generation), [])
        context.truncate(len(PROMPT))
        stop = expected[4]
        generation = context.generate(stop_tokens=[stop])
        self.assertEqual(list(generation), expected[: expected.index(stop) + 1])
        self.assertEqual(generation.stop_reason, "stop_token")
        full = self.context(context_length=10).generate(stop_tokens=[])
        self.assertEqual((len(list(full)), full.stop_reason), (4, "context_full"))

    def test_sampler(self) -> None:
        settings = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "seed": 7}
        with Sampler(**settings) as sampler:
            first = list(self.context().generate(sampler, max_tokens=12, stop_tokens=[]))
            self.assertEqual(list(self.context().generate(sampler, max_tokens=12, stop_tokens=[])), first)
            sampler.seed = 8
            self.assertEqual(sampler.seed, 8)
            self.assertNotEqual(list(self.context().generate(sampler, max_tokens=12, stop_tokens=[])), first)
            for name, value in {"temperature": -1.0, "top_p": 0.0, "min_p": 2.0, "repetition_penalty": 0.0}.items():
                with self.assertRaises(gptoss.InvalidArgumentError):
                    setattr(sampler, name, value)
            with self.assertRaises(OverflowError):
                sampler.top_k = -1
            with self.assertRaises(AttributeError):
                sampler.temprature = 1.0

    def test_closing_keeps_what_was_taken(self) -> None:
        context = self.context()
        generation = context.generate(stop_tokens=[])
        taken = [next(generation) for _ in range(3)]
        generation.close()
        self.assertEqual(context.tokens, PROMPT + taken)
        with context.generate(max_tokens=10, stop_tokens=[]) as generation:
            taken.append(next(generation))
            time.sleep(0.2)  # it has computed all ten
        self.assertEqual(context.tokens, PROMPT + taken)
        for token in context.generate(stop_tokens=[]):
            break  # forgotten: collected, and closed
        self.assertEqual(context.tokens, PROMPT + taken + [token])
        generation = context.generate(stop_tokens=[])
        context.close()
        self.assertEqual(list(generation), [])

    def test_async(self) -> None:
        expected = self.context().sample(20, temperature=0.0)

        async def all_of_it() -> None:
            context = self.context()
            turns = 0

            async def turn() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            other = asyncio.create_task(turn())
            async with context.generate(max_tokens=20, stop_tokens=[]) as generation:
                self.assertEqual([token async for token in generation], expected)
            self.assertEqual(generation.stop_reason, "max_tokens")
            self.assertEqual([token async for token in generation], [])
            self.assertGreater(turns, 20)  # the loop went on meanwhile
            other.cancel()
            with self.assertRaises(gptoss.InvalidStateError):
                async for _ in Context(self.model).generate():
                    pass

        asyncio.run(all_of_it())

    def test_a_cancelled_task_leaves_what_was_taken(self) -> None:
        async def cancelled(context: Context, after: int) -> None:
            taken: list = []

            async def take() -> None:
                async for token in context.generate(stop_tokens=[]):
                    taken.append(token)
                    if len(taken) == after:
                        task.cancel()  # raised in the next wait

            task = asyncio.create_task(take())
            with self.assertRaises(asyncio.CancelledError):
                await task
            self.assertEqual(context.tokens, PROMPT + taken)  # it is free at once
            self.assertGreaterEqual(len(taken), after)
            self.assertEqual(len(context.sample(2)), 2)

        for after in (1, 5):
            asyncio.run(cancelled(self.context(), after))

        async def timed_out() -> None:
            context = self.context()
            generation = context.generate(stop_tokens=[])

            async def take() -> None:
                async for _ in generation:
                    pass

            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(take(), 0.2)
            self.assertEqual(generation.stop_reason, "closed")
            context.append(1)

        asyncio.run(timed_out())

    def test_logits(self) -> None:
        context = self.context()
        logits = context.logits()
        self.assertEqual((logits.format, logits.itemsize, len(logits)), ("f", 4, 512))
        self.assertEqual(max(range(512), key=logits.__getitem__), context.sample(temperature=0.0))

    def test_what_append_takes(self) -> None:
        context = Context(self.model)
        for what in ([1, 2], (3,), iter([4]), range(5, 6), memoryview(b"\6").cast("B"), 7):
            context.append(what)
        self.assertEqual(context.tokens, [1, 2, 3, 4, 5, 6, 7])
        context.reset()
        for wrong, error in {-1: OverflowError, 2**32: OverflowError, 512: ValueError, 1.5: TypeError}.items():
            for what in (wrong, [1, wrong]):
                with self.assertRaises(error):
                    context.append(what)
        with self.assertRaises(TypeError):
            context.append(None)
        self.assertEqual(context.num_tokens, 0)

    def test_text(self) -> None:
        with Tokenizer() as tokenizer:
            self.assertEqual(tokenizer.decode(memoryview(b"\5").cast("B")), tokenizer.decode(5))
            with self.assertRaises(TypeError):
                tokenizer.decode(1.5)
            for text in ("", "Grüße", "a\0b", "<|end|>"):
                self.assertEqual(tokenizer.decode(tokenizer.encode(text)), text.encode())
            self.assertEqual(tokenizer.encode("<|end|>", allow_special=True), [200007])
            self.assertEqual(tokenizer.special_token_name(200007), "<|end|>")
            self.assertEqual(tokenizer.encode(b"\xff\xfe"), tokenizer.encode(b"\xff\xfe"))
            conversation = {"messages": [{"role": "user", "content": "hi"}]}
            self.assertEqual(
                tokenizer.decode(tokenizer.render(conversation)),
                b"<|start|>user<|message|>hi<|end|><|start|>assistant",
            )
            with self.assertRaisesRegex(gptoss.InvalidArgumentError, "role"):
                tokenizer.render({"messages": [{"role": "nobody", "content": ""}]})
            parser, deltas = HarmonyParser(tokenizer), []
            answer = '<|channel|>commentary to=functions.f<|message|>{"ü": 1}<|call|>'
            for token in tokenizer.encode(answer, allow_special=True):
                parser.process(token)
                deltas.append(parser.delta)
            self.assertEqual("".join(deltas), '{"ü": 1}')
            self.assertEqual(parser.messages[0]["recipient"], "functions.f")
            self.assertFalse(parser.is_malformed)

    def test_the_state_of_a_parser(self) -> None:
        """The names of openai_harmony's StreamableParser."""
        with Tokenizer() as tokenizer:
            parser = HarmonyParser(tokenizer)
            self.assertEqual((parser.state, parser.current_role), (gptoss.StreamState.HEADER, "assistant"))
            self.assertIsNone(parser.current_channel)
            header = "<|channel|>commentary to=functions.f <|constrain|>json<|message|>"
            tokens = tokenizer.encode(header + '{"a": 1}', allow_special=True)
            for token in tokens:
                parser.process(token)
            self.assertEqual(parser.state, gptoss.StreamState.CONTENT)
            self.assertEqual((parser.current_channel, parser.current_recipient), ("commentary", "functions.f"))
            self.assertEqual((parser.current_content_type, parser.current_content), ("<|constrain|>json", '{"a": 1}'))
            self.assertTrue('{"a": 1}'.endswith(parser.last_content_delta or "?"))
            self.assertEqual(parser.tokens, tokens)
            parser.process(tokenizer.encode_special_token("<|call|>"))
            self.assertEqual((parser.state, parser.current_content), (gptoss.StreamState.EXPECT_START, ""))
            self.assertIsNone(parser.last_content_delta)
            parser.reset()
            self.assertEqual((parser.tokens, parser.messages), ([], []))

    def test_describing(self) -> None:
        info = self.model.info
        self.assertEqual((info.num_layers, info.vocabulary_size), (4, 512))
        self.assertIn(info.tier, ("exact", "coopmat"))
        estimate = Model.estimate_memory(TINY)
        self.assertTrue(estimate.fits)
        self.assertEqual((estimate.weight_bytes, info.num_device_experts), (info.weight_bytes, 32))
        self.assertEqual(Model.estimate_memory(TINY, memory_budget=1000).fits, False)
        devices = gptoss.devices()
        self.assertTrue(devices[info.device].supported)
        self.assertGreater(gptoss.measure_bandwidth(info.device), 0)
        context = self.context()
        self.assertEqual(context.stats.step_dispatches, 0)
        context.sample(3)
        self.assertGreater(context.stats.step_dispatches, 0)
        self.assertGreater(context.stats.cache_bytes, 0)
        for sampler in (None, Sampler(top_p=0.9)):
            self.assertTrue(all(time.name and time.dispatches for time in context.profile(sampler=sampler)))
        with self.assertRaises(gptoss.InvalidArgumentError):
            context.profile(100)

    def test_loading(self) -> None:
        seen, lines = [], []
        with Model(TINY, progress=lambda done, total: seen.append((done, total)), log=lambda *line: lines.append(line)):
            self.assertEqual(seen[-1][0], seen[-1][1])

        def fail(done: int, total: int) -> None:
            raise KeyError("stop")

        with self.assertRaises(KeyError):
            Model(TINY, progress=fail)
        with self.assertRaises(gptoss.CancelledError):
            Model(TINY, progress=lambda *_: True)
        with self.assertRaisesRegex(gptoss.FileError, "^/no/such/model") as raised:
            Model("/no/such/model")
        self.assertIsInstance(raised.exception, OSError)
        self.assertEqual(raised.exception.errno, errno.ENOENT)
        self.assertEqual(str(pickle.loads(pickle.dumps(raised.exception))), str(raised.exception))
        with self.assertRaises(gptoss.FileError) as raised:
            Tokenizer(__file__)  # no vocabulary
        self.assertEqual(raised.exception.errno, errno.EIO)
        with self.assertRaisesRegex(ValueError, "weights"):
            Model(TINY, weights="q3")


@unittest.skipUnless(os.path.isdir(NANO), "no gptoss-nano")
class Conversation(unittest.TestCase):
    """What the model says does not matter here, only that it arrives."""

    def test_chat(self) -> None:
        weather = {
            "name": "get_weather",
            "description": "Gets the weather of a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        }
        with Model(NANO) as model, Sampler(temperature=0.0) as greedy:
            with gptoss.Chat(model, tools=[weather], instructions="Be brief.", sampler=greedy) as chat:
                deltas = list(chat.send("What is 12 plus 30?", max_tokens=200))
                self.assertTrue(all(delta.text for delta in deltas))
                said = "".join(delta.text for delta in deltas)
                self.assertEqual(said, "".join(message["content"] for message in chat.messages[1:]))
                before = len(chat.messages)
                reply = chat.send("And the weather in Paris?")
                next(reply)
                reply.close()
                self.assertEqual(len(chat.messages), before + 2)
                self.assertEqual(reply.stop_reason, "closed")
                chat.add_tool_result("get_weather", '{"sky": "clear"}')
                reply = chat.send(max_tokens=100)
                self.assertIsInstance(reply.text, str)
                self.assertIsInstance(reply.reasoning, str)
                self.assertIsInstance(reply.tool_calls, list)
                self.assertTrue(reply.messages)
            with self.assertRaisesRegex(ValueError, "reasoning_effort"):
                gptoss.Chat(model, reasoning_effort="much")

    def test_seeds(self) -> None:
        with Model(NANO) as model:
            seeds = {gptoss.Chat(model).sampler.seed for _ in range(3)}
            self.assertEqual(len(seeds), 3)
            self.assertEqual(gptoss.Chat(model, seed=7).sampler.seed, 7)
            with self.assertRaises(gptoss.InvalidArgumentError):
                gptoss.Chat(model, seed=7, sampler=Sampler())

    def test_a_tool_without_a_description(self) -> None:
        with Model(NANO) as model, gptoss.Chat(model, tools=[{"name": "get_time"}]) as chat:
            self.assertTrue(chat.send("What time is it?", max_tokens=5).messages is not None)
            self.assertIn(b"type get_time", chat.tokenizer.decode(chat.context.tokens))

    def test_async_chat(self) -> None:
        async def talk() -> None:
            with Model(NANO) as model, gptoss.Chat(model, sampler=Sampler(temperature=0.0)) as chat:
                deltas = [delta async for delta in chat.send("What is 12 plus 30?", max_tokens=200)]
                said = "".join(delta.text for delta in deltas)
                self.assertEqual(said, "".join(message["content"] for message in chat.messages[1:]))
                reply = await chat.send("Hello", max_tokens=50)
                self.assertTrue(reply.messages)
                before = len(chat.messages)
                async with chat.send("What is 2 plus 3?") as reply:
                    async for delta in reply:
                        self.assertEqual(reply.parser.channel, delta.channel)
                        break
                self.assertEqual(reply.stop_reason, "closed")
                self.assertEqual(len(chat.messages), before + 2)

        asyncio.run(talk())

    def test_the_calls_of_a_chat_program(self) -> None:
        """For gpt_oss.metal: headers by hand, special tokens by name, one token at a time."""
        model = Model(NANO)
        tokenizer, context = model.tokenizer, Context(model, context_length=0)
        names = ("start", "message", "end", "return", "channel")
        special = {name: tokenizer.encode_special_token(f"<|{name}|>") for name in names}
        for part in (special["start"], "user", special["message"], "Hello", special["end"]):
            context.append(part)
        for part in (special["start"], "assistant", special["channel"]):
            context.append(part)
        text = b""
        for _ in range(200):
            token = context.sample(temperature=0.0, seed=0)
            context.append(token)
            if token == special["return"]:
                break
            if token < tokenizer.num_text_tokens:
                text += tokenizer.decode(token)
        self.assertTrue(text.decode("utf-8"))


class Misuse(WithModel):
    def test_after_close(self) -> None:
        context, sampler, model = self.context(), Sampler(), Model(TINY)
        context.close()
        context.close()
        sampler.close()
        model.close()
        tokenizer = Tokenizer()
        tokenizer.close()
        for use in (
            lambda: context.num_tokens,
            lambda: context.append(1),
            lambda: context.sample(1),
            lambda: context.generate(),
            lambda: copy.copy(context),
            lambda: self.context().generate(sampler),
            lambda: setattr(sampler, "seed", 1),
            lambda: Context(model),
            lambda: model.tokenizer,
            lambda: tokenizer.encode("a"),
            lambda: HarmonyParser(tokenizer),
        ):
            with self.assertRaisesRegex(gptoss.InvalidStateError, "closed"):
                use()
        context.cancel()

    def test_a_context_outlives_its_model(self) -> None:
        model = Model(TINY, log=print)
        context = Context(model)
        tokenizer = model.tokenizer
        model.close()
        del model
        context.append(PROMPT)
        self.assertEqual(len(context.sample(4)), 4)
        self.assertEqual(tokenizer.num_text_tokens, 199998)

    def test_nothing_is_called_on_a_context_that_is_released(self) -> None:
        released, late = set(), []

        def watched(name: str):
            function = getattr(lib, name)

            def call(handle):
                if handle.value in released:
                    late.append(name)
                if name == "gptoss_context_release":
                    released.add(handle.value)
                return function(handle)

            return unittest.mock.patch.object(lib, name, call)

        with watched("gptoss_context_release"), watched("gptoss_context_cancel"), watched("gptoss_context_clear_cancel"):
            for max_tokens in (1, 4, 64):
                context = Context(self.model)
                context.append(PROMPT)
                generation = context.generate(max_tokens=max_tokens, stop_tokens=[])
                del context  # the generation is all that holds it
                self.assertEqual(len(list(generation)), max_tokens)
                del generation
                self.assertEqual((len(released), late), (1, []))
                released.clear()

    def test_pickling(self) -> None:
        for handle in (self.model, self.context(), Sampler(), Tokenizer()):
            for use in (pickle.dumps, copy.deepcopy):
                with self.assertRaisesRegex(TypeError, f"a {type(handle).__name__} cannot be pickled"):
                    use(handle)

    def test_two_threads(self) -> None:
        context, sampler = self.context(), Sampler()
        with context.generate(sampler, stop_tokens=[]) as generation:
            next(generation)
            errors = []

            def use() -> None:
                for call in (lambda: context.append(1), lambda: context.num_tokens, lambda: setattr(sampler, "seed", 1)):
                    try:
                        call()
                    except gptoss.InvalidStateError as error:
                        errors.append(str(error))

            thread = threading.Thread(target=use)
            thread.start()
            thread.join()
            self.assertEqual(len(errors), 3)
            self.assertIn("in use", errors[0])
        context.append(1)

    def test_closing_while_another_thread_works(self) -> None:
        def sample(context: Context) -> None:
            try:
                self.assertEqual(len(context.sample(20)), 20)
            except gptoss.InvalidStateError:
                pass  # the close came first

        for _ in range(5):
            context = self.context()
            thread = threading.Thread(target=sample, args=[context])
            thread.start()
            context.close()
            thread.join()

    def test_cancel(self) -> None:
        context, raised = self.context(), []

        def sample() -> None:
            try:
                context.sample(100_000)
            except gptoss.CancelledError as error:
                raised.append(error)

        thread = threading.Thread(target=sample)
        thread.start()
        while thread.is_alive():
            context.cancel()
            time.sleep(0.01)
        self.assertEqual(len(raised), 1)
        self.assertGreaterEqual(context.num_tokens, len(PROMPT))
        context.clear_cancel()
        context.cancel()
        with self.assertRaises(gptoss.CancelledError):
            context.process()
        context.cancel()
        context.clear_cancel()
        context.process()

    def test_a_closed_generation_leaves_no_cancel(self) -> None:
        context = self.context()
        for taken in (0, 1, 5):
            generation = context.generate(max_tokens=5, stop_tokens=[])
            for _ in range(taken):
                next(generation)
            generation.close()
            self.assertEqual(len(context.sample(2)), 2)

    def test_fork(self) -> None:
        context = self.context()
        context.process()
        fork = context.fork()
        tokens = context.sample(10, temperature=0.0)
        self.assertEqual(fork.tokens, PROMPT)
        context.close()
        self.assertEqual(fork.sample(10, temperature=0.0), tokens)

    def test_save_and_restore(self) -> None:
        context, other = self.context(), self.context()
        context.sample(5)
        state = context.save()
        tokens = context.sample(10)
        other.restore(state)
        self.assertEqual(other.sample(10), tokens)
        with self.assertRaisesRegex(gptoss.InvalidArgumentError, "truncated"):
            other.restore(state[:-1])
        self.assertEqual(other.num_tokens, len(PROMPT) + 15)

    def test_of_another_kind_or_model(self) -> None:
        context = self.context()
        with self.assertRaises(TypeError):
            Context(context)
        with self.assertRaises(TypeError):
            context.generate(self.model)
        with self.assertRaisesRegex(gptoss.InvalidArgumentError, "vocabulary"):
            context.append(self.model.tokenizer.encode_special_token("<|start|>"))
        with self.assertRaises(gptoss.ContextOverflowError):
            self.context(context_length=8).append([1] * 10)


class Process(unittest.TestCase):
    """What only a process of its own can show."""

    def run_python(self, code: str, **environment: str) -> "subprocess.Popen[str]":
        package = os.path.dirname(os.path.dirname(gptoss.__file__))
        env = {**os.environ, "PYTHONPATH": package, "TINY": TINY, **environment}
        process = subprocess.Popen(
            [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)  # the first of both: what hangs ends with its test
        return process

    def test_keyboard_interrupt_stops_a_generation(self) -> None:
        for call in ("for token in context.generate(stop_tokens=[]): taken += 1", "context.sample(100_000)"):
            process = self.run_python(
                "import os, signal, gptoss\n"
                # What a shell runs in the background ignores the signal, and hands that down.
                "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
                "context, taken = gptoss.Context(gptoss.Model(os.environ['TINY'])), 0\n"
                "context.append([1, 2, 3]); context.process()\n"
                "print('ready', flush=True)\n"
                f"try:\n    {call}\n"
                "except KeyboardInterrupt:\n    print('stopped', context.num_tokens - 3 - taken, flush=True)\n"
            )
            assert process.stdout is not None
            self.assertEqual(process.stdout.readline(), "ready\n")
            time.sleep(0.3)
            begun = time.monotonic()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 0, err)
            self.assertLess(time.monotonic() - begun, 5)
            self.assertEqual(out.split()[0], "stopped")
            if "generate" in call:
                self.assertEqual(out, "stopped 0\n")

    def test_exit_amid_a_generation(self) -> None:
        process = self.run_python(
            "import os, gptoss\n"
            "context = gptoss.Context(gptoss.Model(os.environ['TINY']))\n"
            "context.append([1, 2, 3])\n"
            "generation = context.generate(stop_tokens=[])\n"
            "print(next(generation) >= 0)\n"
        )
        out, err = process.communicate(timeout=60)
        self.assertEqual((process.returncode, out, err), (0, "True\n", ""))

    def test_the_gil_is_free(self) -> None:
        with Model(TINY) as model, Context(model) as context:
            context.append([1, 2, 3])
            thread = threading.Thread(target=lambda: context.sample(50))
            thread.start()
            turns = 0
            while thread.is_alive():
                turns += 1
                time.sleep(0)
            self.assertGreater(turns, 50)

    def test_finding_the_library(self) -> None:
        process = self.run_python("import gptoss; gptoss.devices()", GPTOSS_LIBRARY="/no/such/file")
        self.assertIn("GPTOSS_LIBRARY", process.communicate(timeout=60)[1])
        library = os.environ.get("GPTOSS_LIBRARY")
        if library:
            code = f"import gptoss; gptoss.load_library({library!r}); print(gptoss.library_version())"
            process = self.run_python(code, GPTOSS_LIBRARY="/no/such/file")
            self.assertEqual(process.communicate(timeout=60)[0][:3], "(0,")


if __name__ == "__main__":
    unittest.main()
