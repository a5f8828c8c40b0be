"""Grammars, stop strings and log-probabilities, on the checkpoint tests/golden/tiny."""

import json
import os
import unittest

from gptoss import Context, Grammar, InvalidArgumentError, Model, Sampler, UnsupportedArgumentError

HERE = os.path.dirname(os.path.abspath(__file__))
TINY = os.environ.get("GPTOSS_TINY", os.path.join(HERE, "../../../tests/golden/tiny"))


class Grammars(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.model = Model(TINY)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.model.close()

    def setUp(self) -> None:
        self.context = Context(self.model, 256)
        self.context.append([5, 400, 17, 81])
        self.addCleanup(self.context.close)

    def test_answers_follow_a_grammar(self) -> None:
        with self.model.tokenizer as tokenizer:
            for of in (self.model, tokenizer):
                grammar = Grammar(of, regex="[0-9]{4}abcabc")
                generation = self.context.generate(Sampler(temperature=1.5, grammar=grammar))
                text = "".join(generation.output.text for _ in generation)
                self.assertRegex(text, "^[0-9]{4}abcabc$")
                self.assertEqual(generation.stop_reason, "grammar_end")
                assert generation.usage is not None
                self.assertEqual(generation.usage.prompt_tokens, self.context.num_tokens - generation.usage.generated_tokens)
                self.assertGreater(generation.usage.forced_tokens, 0)
                self.context.append(5)
        schema = {"type": "object", "properties": {"n": {"enum": [1, 22]}}, "required": ["n"], "additionalProperties": False}
        for given in (schema, json.dumps(schema), json.dumps(schema).encode()):
            generation = self.context.generate(Sampler(grammar=Grammar(self.model, json_schema=given)))
            self.assertIn(json.loads("".join(generation.output.text for _ in generation))["n"], (1, 22))
            self.context.append(5)

    def test_refused_grammars(self) -> None:
        for wrong in ({"json_schema": {"type": "strin"}}, {"regex": "("}, {"gbnf": "root ::= x"}, {"harmony": {"tool": 1}}):
            with self.assertRaises(InvalidArgumentError):
                Grammar(self.model, **wrong)
        with self.assertRaises(UnsupportedArgumentError):
            Grammar(self.model, json_schema={"type": "array", "uniqueItems": True})
        for wrong in ({}, {"regex": "a", "gbnf": "root ::= x"}):
            with self.assertRaises(TypeError):
                Grammar(self.model, **wrong)
        with self.assertRaises(TypeError):
            Sampler(grammar="[0-9]")
        with self.assertRaises(TypeError):
            Grammar("model", regex="a")

    def test_stop_strings_and_logprobs(self) -> None:
        grammar = Grammar(self.model, regex="abcabd[0-9]*")
        sampler = Sampler(grammar=grammar, logit_bias={7: 2.5, 9: -100})
        generation = self.context.generate(sampler, stop_strings=["cab"], logprobs="drawn", top_logprobs=2)
        outputs = [generation.output for _ in generation]
        self.assertEqual("".join(output.text for output in outputs), "ab")
        self.assertEqual(generation.stop_reason, "stop_string")
        self.assertTrue(all(output.logprob <= 0 and output.top_logprobs for output in outputs))
        values, tops = self.context.logprobs(1, 3, num_top=2)
        self.assertEqual((len(values), [len(top) for top in tops]), (3, [2, 2, 2]))
        self.assertTrue(all(value < 0 for value in values))
        with self.assertRaises(InvalidArgumentError):
            self.context.logprobs(1, 10**12)
        for wrong in ({"logprobs": "all"}, {"top_logprobs": 257}, {"stop_strings": ["a\0"]}, {"stop_strings": [""]}):
            with self.assertRaises(InvalidArgumentError):
                list(self.context.generate(**wrong))
        with self.assertRaises(TypeError):
            self.context.generate(stop_strings="stop")

    def test_a_closed_generation_goes_on(self) -> None:
        sampler = Sampler(grammar=Grammar(self.model, regex="[0-9]{60}"))
        with self.context.generate(sampler) as generation:
            for _ in range(5):
                next(generation)
        self.assertEqual(self.context.num_tokens, 4 + 5)
        generation = self.context.generate(sampler)
        self.assertEqual(sum(1 for _ in generation), self.context.num_tokens - 9)
        with self.model.tokenizer as tokenizer:
            self.assertRegex(tokenizer.decode(self.context.tokens[4:]), b"^[0-9]{60}$")


if __name__ == "__main__":
    unittest.main()
