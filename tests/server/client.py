"""OpenAI's Python client against gptoss-server: client.py SERVER MODEL."""

import asyncio
import re
import subprocess
import sys
import unittest

import openai
import pydantic

QUESTION = [{"role": "user", "content": "What is 15 × 23?"}]
ANSWER = "15 × 23 = 345."
WEATHER = {
    "name": "get_weather",
    "description": "Gets the weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


class Sum(pydantic.BaseModel):
    sum: int


class Client(unittest.TestCase):
    program, path = "", ""

    @classmethod
    def setUpClass(cls):
        cls.server = subprocess.Popen([cls.program, cls.path, "--port", "0"], stdout=subprocess.PIPE, text=True)
        url = ""
        for line in cls.server.stdout:
            if found := re.search(r"http://\S+?(?=/\n)", line):
                url = found[0]
                break
        cls.url = url + "/v1"
        cls.client = openai.OpenAI(base_url=cls.url, api_key="none", max_retries=0)

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.server.terminate()
        cls.server.stdout.close()
        assert cls.server.wait(60) == 0

    def chat(self, **more):
        more = {"messages": QUESTION, "reasoning_effort": "high", **more}
        return self.client.chat.completions.create(model="gptoss-nano", **more)

    def test_models(self):
        self.assertEqual([model.id for model in self.client.models.list()], ["gptoss-nano"])

    def test_chat(self):
        choice = self.chat().choices[0]
        self.assertEqual((choice.message.content, choice.finish_reason), (ANSWER, "stop"))
        self.assertIn("345", choice.message.reasoning)

    def test_streamed_chat(self):
        chunks = list(self.chat(stream=True, stream_options={"include_usage": True}))
        self.assertEqual("".join(c.choices[0].delta.content or "" for c in chunks if c.choices), ANSWER)
        self.assertGreater(chunks[-1].usage.completion_tokens, 0)

    def test_logprobs(self):
        content = self.chat(logprobs=True, top_logprobs=5).choices[0].logprobs.content
        self.assertEqual(b"".join(bytes(token.bytes) for token in content).decode(), ANSWER)
        self.assertTrue(all(len(token.top_logprobs) == 5 for token in content))

    def test_completions(self):
        prompt = "<|start|>user<|message|>What is 2 + 3?<|end|><|start|>assistant"
        choice = self.client.completions.create(model="m", prompt=prompt, max_tokens=100, logprobs=1).choices[0]
        self.assertRegex(choice.text, r"2 \+ 3 = 5\.$")
        self.assertEqual("".join(choice.logprobs.tokens), choice.text)

    def test_parse(self):
        messages = [{"role": "user", "content": "What is 44 + 17?"}]
        parsed = self.client.chat.completions.parse(model="m", messages=messages, response_format=Sum, seed=1)
        self.assertIsInstance(parsed.choices[0].message.parsed, Sum)
        parsed = self.client.responses.parse(model="m", input="What is 44 + 17?", text_format=Sum)
        self.assertIsInstance(parsed.output_parsed, Sum)

    def test_tools(self):
        messages = [{"role": "user", "content": "What is the weather like in Tokyo?"}]
        tools = [{"type": "function", "function": WEATHER}]
        message = self.chat(messages=messages, tools=tools, tool_choice="required").choices[0].message
        call = message.tool_calls[0]
        self.assertEqual((call.function.name, call.function.arguments), ("get_weather", '{"city": "Tokyo"}'))
        result = {"role": "tool", "tool_call_id": call.id, "content": '{"temperature": 21, "condition": "sunny"}'}
        said = self.chat(messages=[*messages, message, result], tools=tools).choices[0].message.content
        self.assertIn("21", said)

    def test_responses(self):
        response = self.client.responses.create(model="m", input="What is 15 × 23?", reasoning={"effort": "high"})
        self.assertEqual((response.status, response.output_text), ("completed", ANSWER))
        self.assertEqual([item.type for item in response.output], ["reasoning", "message"])

    def test_streamed_responses(self):
        with self.client.responses.stream(model="m", input="What is 15 × 23?", reasoning={"effort": "high"}) as stream:
            kinds = [event.type for event in stream]
            self.assertEqual(stream.get_final_response().output_text, ANSWER)
        self.assertEqual((kinds[0], kinds[-1]), ("response.created", "response.completed"))
        self.assertIn("response.reasoning_text.delta", kinds)

    def test_embeddings(self):
        one = self.client.embeddings.create(model="m", input="Hello").data[0].embedding
        both = self.client.embeddings.create(model="m", input=["Hello", "What is 2 + 3?"]).data
        self.assertAlmostEqual(sum(x * x for x in one), 1, places=4)
        self.assertTrue(all(abs(x - y) < 1e-4 for x, y in zip(one, both[0].embedding)))

    def test_errors(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            self.chat(temperature=5)
        self.assertEqual(caught.exception.param, "temperature")

    def test_several_at_once(self):
        async def ask(client, a, b):
            messages = [{"role": "user", "content": f"What is {a} + {b}?"}]
            answer = await client.chat.completions.create(model="m", messages=messages, temperature=0)
            return answer.choices[0].message.content

        async def ask_all():
            async with openai.AsyncOpenAI(base_url=self.url, api_key="none", max_retries=0) as client:
                return await asyncio.gather(*(ask(client, 10 + i, 20 + i) for i in range(8)))

        self.assertEqual(asyncio.run(ask_all()), [f"{10 + i} + {20 + i} = {30 + 2 * i}." for i in range(8)])


if __name__ == "__main__":
    Client.program, Client.path = sys.argv[1:3]
    result = unittest.main(argv=sys.argv[:1], exit=False, verbosity=2).result
    wrong = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - wrong} passed, {wrong} failed")
    sys.exit(wrong > 0)
