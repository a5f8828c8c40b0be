"""Requests of OpenAI's chat and text completions, answered by generate_together(): what a batch's lines hold."""

from __future__ import annotations

import codecs
import datetime
import json
import os
import threading
from typing import Any, NamedTuple, Optional, Union

from .chat import CHANNELS, IDENTITY, KNOWLEDGE_CUTOFF, HarmonyParser
from .context import Context
from .errors import ContextOverflowError, GptossError
from .grammar import Grammar
from .model import Model, Tokenizer, devices
from .sampler import Sampler
from .together import Generated, GenerateRequest, generate_together

JSON = dict[str, Any]
URLS = ("/v1/chat/completions", "/v1/completions")
EFFORTS = {"none": "low", "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}


class RequestError(Exception):
    """What a client did wrong, in OpenAI's shape."""

    def __init__(self, param: Optional[str], message: str, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.param, self.code = param, code

    def body(self) -> JSON:
        error = {"message": str(self), "type": "invalid_request_error", "param": self.param, "code": self.code}
        return {"error": error}


class Settings(NamedTuple):
    """How a process answers lines; the same for all of a batch."""

    model: str
    device: Optional[str] = None
    weights: str = "default"
    memory_budget: int = 0
    context_length: int = 0
    together: int = 32  # generations at once
    date: str = ""  # that the system message tells


class Line(NamedTuple):
    id: str  # hexadecimal, of the line's number and text
    text: str


def _of(body: JSON, path: str, kind: Any, expected: str, otherwise: Any = None) -> Any:
    """A field by the last name of its path; otherwise, where it is not there or null."""
    value = body.get(path.rsplit(".", 1)[-1])
    if value is None:
        return otherwise
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise RequestError(path, f"{path} is {json.dumps(value)[:100]}: expected {expected}", "invalid_type")
    return value


def _needed(body: JSON, path: str, kind: Any, expected: str) -> Any:
    value = _of(body, path, kind, expected)
    if value is None:
        raise RequestError(path, f"{path} is missing: expected {expected}", "missing_required_parameter")
    return value


def _number(body: JSON, path: str, least: float, most: float, otherwise: Any, kind: Any = (int, float)) -> Any:
    what = "a whole number" if kind is int else "a number"
    value = _of(body, path, kind, f"{what} from {least:g} to {most:g}", otherwise)
    if value is not None and not least <= value <= most:
        raise RequestError(path, f"{path} is {value}: expected {what} from {least:g} to {most:g}")
    return value


def _objects(body: JSON, path: str, expected: str) -> list[tuple[str, JSON]]:
    found = [(f"{path}[{i}]", value) for i, value in enumerate(_of(body, path, list, expected, []))]
    for where, value in found:
        if not isinstance(value, dict):
            raise RequestError(where, f"{where}: expected an object", "invalid_type")
    return found


def _text(message: JSON, path: str) -> str:
    content = _needed(message, path, (str, list), "a string or an array of parts")
    if isinstance(content, str):
        return content
    text = ""
    for where, part in _objects(message, path, "an array of parts"):
        kind = _needed(part, f"{where}.type", str, "a string")
        if kind not in ("text", "refusal"):
            raise RequestError(f"{where}.type", f'{where}.type: this model reads text alone, and "{kind}" is something else')
        text += _needed(part, f"{where}.{kind}", str, "a string")
    return text


def _assistant(message: JSON, path: str, calls: dict[str, str]) -> list[JSON]:
    messages: list[JSON] = []
    reasoning = _of(message, f"{path}.reasoning", str, "a string") or _of(message, f"{path}.reasoning_content", str, "a string")
    if reasoning:
        messages.append({"role": "assistant", "channel": "analysis", "content": reasoning})
    called = _objects(message, f"{path}.tool_calls", "an array of calls")
    if message.get("content") is not None or not (called or message.get("refusal")):
        text = _text(message, f"{path}.content")
        if text or not called:
            messages.append({"role": "assistant", "channel": "commentary" if called else "final", "content": text})
    for where, call in called:
        function = _needed(call, f"{where}.function", dict, "an object")
        name = _needed(function, f"{where}.function.name", str, "a string")
        calls[_needed(call, f"{where}.id", str, "a string")] = name
        arguments = _needed(function, f"{where}.function.arguments", str, "a string")
        header = {"role": "assistant", "recipient": f"functions.{name}", "channel": "commentary"}
        messages.append({**header, "content_type": "<|constrain|>json", "content": arguments})
    return messages


def _conversation(body: JSON, functions: list[JSON], date: str) -> JSON:
    """The messages as a Harmony conversation; reasoning is left out of turns that are over."""
    effort = _of(body, "reasoning_effort", str, "a string", "medium")
    if effort not in EFFORTS:
        raise RequestError("reasoning_effort", f'reasoning_effort is "{effort}": expected "low", "medium" or "high"')
    system = {
        "type": "system_content",
        "model_identity": IDENTITY,
        "reasoning_effort": EFFORTS[effort],
        "conversation_start_date": date,
        "knowledge_cutoff": KNOWLEDGE_CUTOFF,
        "channel_config": {"valid_channels": CHANNELS, "channel_required": True},
    }
    instructions: list[str] = []
    messages: list[JSON] = []
    calls: dict[str, str] = {}
    last_user = 0
    if not _objects(body, "messages", "an array of messages"):
        raise RequestError("messages", "messages: expected an array with a message", "missing_required_parameter")
    for path, message in _objects(body, "messages", "an array of messages"):
        role = _needed(message, f"{path}.role", str, "a string")
        if role in ("system", "developer"):
            text = _text(message, f"{path}.content")
            if messages:
                content = {"type": "developer_content", "instructions": text}
                messages.append({"role": "developer", "content": [content]})
            else:
                instructions.append(text)
        elif role == "user":
            last_user = len(messages)
            messages.append({"role": "user", "content": _text(message, f"{path}.content")})
        elif role == "assistant":
            messages += _assistant(message, path, calls)
        elif role == "tool":
            call = _needed(message, f"{path}.tool_call_id", str, "a string")
            if call not in calls:
                where = f"{path}.tool_call_id"
                raise RequestError(where, f'{where}: there is no call "{call}" before its result')
            result = {"role": "tool", "name": f"functions.{calls[call]}", "recipient": "assistant", "channel": "commentary"}
            messages.append({**result, "content": _text(message, f"{path}.content")})
        else:
            raise RequestError(f"{path}.role", f'{path}.role is "{role}": expected system, developer, user, assistant or tool')
    begin: list[JSON] = [{"role": "system", "content": [system]}]
    if instructions or functions:
        developer: JSON = {"type": "developer_content"}
        if instructions:
            developer["instructions"] = "\n\n".join(instructions)
        if functions:
            developer["tools"] = {"functions": {"name": "functions", "description": None, "tools": functions}}
        begin.append({"role": "developer", "content": [developer]})
    kept = [m for i, m in enumerate(messages) if i >= last_user or m.get("channel") != "analysis"]
    return {"messages": begin + kept}


def _functions(body: JSON) -> tuple[list[JSON], list[JSON]]:
    """The functions as the model is told of them, and as the grammar enforces them."""
    told, enforced = [], []
    for path, tool in _objects(body, "tools", "an array of tools"):
        if tool.get("type") != "function":
            raise RequestError(f"{path}.type", f"{path}.type: there are functions only", "unsupported_value")
        function = _needed(tool, f"{path}.function", dict, "an object")
        name = _needed(function, f"{path}.function.name", str, "a string")
        if not 0 < len(name) <= 128 or not all(c.isascii() and (c.isalnum() or c in "_-.") for c in name):
            raise RequestError(f"{path}.function.name", f"{path}.function.name: expected up to 128 letters, digits, _, - and .")
        parameters = _of(function, f"{path}.function.parameters", dict, "an object")
        strict = _of(function, f"{path}.function.strict", bool, "true or false", False)
        description = _of(function, f"{path}.function.description", str, "a string", "")
        schema = {} if parameters is None else {"parameters": parameters}
        told.append({"name": name, "description": description, **schema})
        enforced.append({"name": name, **(schema if strict else {})})
    return told, enforced


def _tool_choice(body: JSON) -> Union[str, JSON]:
    choice = _of(body, "tool_choice", (str, dict), '"auto", "none", "required" or a function', "auto")
    if isinstance(choice, str):
        if choice not in ("auto", "none", "required"):
            raise RequestError("tool_choice", f'tool_choice is "{choice}": expected "auto", "none" or "required"')
        return choice
    function = _of(choice, "tool_choice.function", dict, "an object", choice)
    return {"name": _needed(function, "tool_choice.function.name", str, "a string")}


def _response_format(body: JSON) -> Any:
    form = _of(body, "response_format", dict, "an object", {})
    kind = _of(form, "response_format.type", str, "a string", "text")
    if kind == "json_schema":
        schema = _needed(form, "response_format.json_schema", dict, "an object")
        return _needed(schema, "response_format.json_schema.schema", dict, "an object")
    if kind not in ("text", "json_object"):
        raise RequestError("response_format.type", f'response_format.type is "{kind}": expected text, json_object or json_schema')
    return {"type": "object"} if kind == "json_object" else None


class _Choice:
    """One answer: takes its tokens, and ends it at a stop string, which counts in the answer's text alone."""

    def __init__(self, request: _Request) -> None:
        self.request = request
        self.parser = HarmonyParser(request.tokenizer) if request.harmony else None
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.text, self.reasoning_tokens, self.stopped = "", 0, False

    def take(self, token: int) -> bool:
        if self.parser is None:
            self.text += self.decoder.decode(self.request.tokenizer.decode([token]))
        else:
            parser = self.parser.process(token)
            reasons = parser.channel == "analysis" and not parser.recipient
            self.reasoning_tokens += reasons
            if not reasons and not self._calls(parser.recipient):
                self.text += parser.delta
        ends = [at for at in (self.text.find(stop) for stop in self.request.stop) if at >= 0]
        if ends:
            self.text, self.stopped = self.text[: min(ends)], True
        return self.stopped

    def _calls(self, recipient: str) -> bool:
        return bool(self.request.offered) and recipient not in ("", "all", "user", "assistant")

    def json(self, index: int, generated: Generated) -> JSON:
        if not self.request.stop:  # else each was taken as it came
            special = self.parser is None and generated.stop_reason == "stop_token"
            for token in generated.tokens[:-1] if special else generated.tokens:
                self.take(token)
        cut = generated.stop_reason in ("max_tokens", "context_full") and not self.stopped
        if self.parser is None:
            text = self.text if self.stopped else self.text + self.decoder.decode(b"", True)
            return {"index": index, "text": text, "logprobs": None, "finish_reason": "length" if cut else "stop"}
        text, reasoning = self.text, ""
        calls: list[JSON] = []
        for message in self.parser.messages:
            recipient, content = message.get("recipient") or "", message.get("content") or ""
            if isinstance(content, list):
                content = "".join(part.get("text", "") for part in content)
            if self._calls(recipient):
                name = recipient[10:] if recipient.startswith("functions.") else recipient
                identity = f"call_{self.request.id[:20]}{index:02}{len(calls):02}"
                function = {"name": name, "arguments": content}
                calls.append({"id": identity, "type": "function", "function": function})
            elif message.get("channel") == "analysis" and not recipient:
                reasoning += content
            elif not self.text and "raw_tokens" in message:
                text += content  # a turn that broke the format: the text that it has in place of an answer
        answer: JSON = {"role": "assistant", "content": None if calls and not text else text, "refusal": None}
        if reasoning:
            answer["reasoning"] = answer["reasoning_content"] = reasoning
        if calls:
            answer["tool_calls"] = calls
        reason = "length" if cut else "tool_calls" if calls and not self.stopped else "stop"
        return {"index": index, "message": answer, "logprobs": None, "finish_reason": reason}


class _Request:
    """A line's body: its prompt, how it is sampled, and the shape of its answer."""

    def __init__(self, line: Line, url: str, body: JSON, engine: Engine) -> None:
        self.id = line.id
        self.tokenizer: Tokenizer = engine.tokenizer
        self.harmony: bool = url == URLS[0]
        self.stop: list[str] = []
        for name in ("logprobs", "top_logprobs", "suffix"):
            if body.get(name):
                raise RequestError(name, f"{name}: is not supported in a batch", "unsupported_parameter")
        if _of(body, "stream", bool, "true or false", False):
            raise RequestError("stream", "stream: a batch has no streams", "unsupported_parameter")
        self.offered: list[JSON] = []
        grammar: Optional[Grammar] = None
        try:
            if self.harmony:
                choice = _tool_choice(body)
                told, enforced = _functions(body) if choice != "none" else ([], [])
                self.offered = told
                self.prompt = self.tokenizer.render(_conversation(body, told, engine.settings.date))
                form = _response_format(body)
                if told or form is not None or choice not in ("auto", "none"):
                    turn: JSON = {"tools": enforced, "tool_choice": choice}
                    grammar = Grammar(self.tokenizer, harmony=turn if form is None else {**turn, "response_format": form})
            else:
                self.prompt = self._plain_prompt(body, engine)
            self.max_tokens = self._max_tokens(body)
            self.stop = self._stop(body)
            self.choices = _number(body, "n", 1, 128, 1, int)
            best = _number(body, "best_of", 1, 128, self.choices, int)
            if best != self.choices:
                raise RequestError("best_of", "best_of: it can be n alone", "unsupported_value")
            self.samplers = [self._sampler(body, grammar, engine, i) for i in range(self.choices)]
        except (GptossError, OverflowError, ValueError) as error:
            raise RequestError(None, str(error)) from None
        self.echo = not self.harmony and _of(body, "echo", bool, "true or false", False)

    def _plain_prompt(self, body: JSON, engine: Engine) -> list[int]:
        prompt = _needed(body, "prompt", (str, list), "a string or an array of tokens")
        if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], (str, list)):
            prompt = prompt[0]
        if isinstance(prompt, str):
            prompt = self.tokenizer.encode(prompt, allow_special=True)
        size = engine.vocabulary_size
        if not prompt or not all(type(token) is int and 0 <= token < size for token in prompt):
            raise RequestError("prompt", f"prompt: expected one text, or tokens below {size}, and at least one")
        return list(prompt)

    def _max_tokens(self, body: JSON) -> Optional[int]:
        names = ("max_completion_tokens", "max_tokens") if self.harmony else ("max_tokens",)
        given = [_number(body, name, 1, 2**31 - 1, None, int) for name in names]
        return next((value for value in given if value is not None), None if self.harmony else 16)

    def _stop(self, body: JSON) -> list[str]:
        stop = _of(body, "stop", (str, list), "a string or up to 4 of them", [])
        strings = [stop] if isinstance(stop, str) else stop
        if len(strings) > 4 or not all(isinstance(string, str) for string in strings):
            raise RequestError("stop", "stop: expected a string or up to 4 of them")
        return [string for string in strings if string]

    def _sampler(self, body: JSON, grammar: Optional[Grammar], engine: Engine, choice: int) -> Sampler:
        # Without a seed the line's own: the same file has the same answers.
        seed = _number(body, "seed", -(2**63), 2**63 - 1, int(self.id[:15], 16), int)
        bias = _of(body, "logit_bias", dict, "an object", {})
        try:
            biases = {int(token): float(value) for token, value in bias.items()}
        except (TypeError, ValueError):
            raise RequestError("logit_bias", "logit_bias: expected an object of tokens and numbers") from None
        default = engine.defaults
        return Sampler(
            temperature=_number(body, "temperature", 0, 2, default["temperature"]),
            top_p=max(_number(body, "top_p", 0, 1, default["top_p"]), 1e-30),
            top_k=max(_number(body, "top_k", -1, 2**31 - 1, default["top_k"], int), 0),
            min_p=_number(body, "min_p", 0, 1, 0.0),
            presence_penalty=_number(body, "presence_penalty", -2, 2, 0.0),
            frequency_penalty=_number(body, "frequency_penalty", -2, 2, 0.0),
            repetition_penalty=_number(body, "repetition_penalty", 0.01, 100, 1.0),
            seed=(seed + choice) % 2**64,
            logit_bias=biases,
            grammar=grammar,
        )

    def answer(self, created: int, model: str, choices: list[JSON], usage: JSON) -> JSON:
        if self.echo:
            begin = self.tokenizer.decode(self.prompt).decode("utf-8", "replace")
            choices = [{**choice, "text": begin + choice["text"]} for choice in choices]
        kind, prefix = ("chat.completion", "chatcmpl-") if self.harmony else ("text_completion", "cmpl-")
        head = {"id": prefix + self.id, "object": kind, "created": created, "model": model}
        return {**head, "choices": choices, "usage": usage}


class Engine:
    """A loaded model that answers lines, `together` generations at once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        device = settings.device if settings.device is not None else claim_device()
        options = {"weights": settings.weights, "memory_budget": settings.memory_budget}
        self.model = Model(settings.model, device=device, **options)  # type: ignore[arg-type]
        self.tokenizer = Tokenizer(self.model)
        self.vocabulary_size = self.model.info.vocabulary_size
        self.name = os.path.basename(os.path.normpath(settings.model))
        self.defaults = sampling_defaults(settings.model)
        self.contexts: list[Context] = []

    def answer(self, lines: list[Line]) -> list[str]:
        """The output line of each, in their order. Raises for what is no line's fault."""
        records: dict[str, JSON] = {}
        requests: list[_Request] = []
        for line in lines:
            request = json.loads(line.text)
            records[line.id] = {"id": f"batch_req_{line.id}", "custom_id": request["custom_id"]}
            try:
                requests.append(_Request(line, request["url"], request["body"], self))
            except RequestError as error:
                records[line.id].update(_response(line.id, 400, error.body()))
        todo = [(request, _Choice(request), i) for request in requests for i in range(request.choices)]
        done: dict[str, list[Union[RequestError, tuple[JSON, Generated, int]]]] = {}
        for first in range(0, len(todo), self.settings.together):
            group = todo[first : first + self.settings.together]
            for (request, choice, i), came in zip(group, self._generate(group)):
                kept = done.setdefault(request.id, [])
                if isinstance(came, RequestError):
                    kept.append(came)
                else:
                    kept.append((choice.json(i, came), came, choice.reasoning_tokens))
        created = int(datetime.datetime.now().timestamp())
        for request in requests:
            good = [outcome for outcome in done[request.id] if not isinstance(outcome, RequestError)]
            for outcome in done[request.id]:
                if isinstance(outcome, RequestError):
                    records[request.id].update(_response(request.id, 400, outcome.body()))
            if len(good) == request.choices:
                generated = sum(len(outcome.tokens) for _, outcome, _ in good)
                usage: JSON = {
                    "prompt_tokens": len(request.prompt),
                    "completion_tokens": generated,
                    "total_tokens": len(request.prompt) + generated,
                    "prompt_tokens_details": {"cached_tokens": good[0][1].usage.cached_tokens},
                }
                if request.harmony:
                    usage["completion_tokens_details"] = {"reasoning_tokens": sum(reasons for _, _, reasons in good)}
                body = request.answer(created, self.name, [choice for choice, _, _ in good], usage)
                records[request.id].update(_response(request.id, 200, body))
        return [json.dumps(records[line.id], ensure_ascii=False) for line in lines]

    def _generate(self, group: list[tuple[_Request, _Choice, int]]) -> list[Union[RequestError, Generated]]:
        while len(self.contexts) < len(group):
            self.contexts.append(Context(self.model, self.settings.context_length))
        outcomes: list[Union[RequestError, Generated, None]] = []
        running: list[GenerateRequest] = []
        for context, (request, choice, i) in zip(self.contexts, group):
            context.reset()
            try:
                context.append(request.prompt)
            except ContextOverflowError as error:
                outcomes.append(RequestError("messages" if request.harmony else "prompt", str(error), "context_length_exceeded"))
                continue
            outcomes.append(None)
            on_token = choice.take if request.stop else None
            running.append(GenerateRequest(context, request.samplers[i], request.max_tokens, on_token=on_token))
        generated = iter(generate_together(running))
        answers: list[Union[RequestError, Generated]] = []
        for outcome in outcomes:
            answers.append(next(generated) if outcome is None else outcome)
            failed = getattr(answers[-1], "error", None)
            if isinstance(failed, ContextOverflowError):
                answers[-1] = RequestError("messages", str(failed), "context_length_exceeded")
            elif failed is not None:
                raise failed
        return answers


def _response(line: str, status: int, body: JSON) -> JSON:
    return {"response": {"status_code": status, "request_id": f"req_{line}", "body": body}, "error": None}


def sampling_defaults(model: str) -> JSON:
    """Of requests that leave them open: what the model's generation_config.json says."""
    defaults: JSON = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}
    try:
        with open(os.path.join(model, "generation_config.json"), encoding="utf-8") as file:
            config = json.load(file)
    except (OSError, ValueError):
        return defaults
    if isinstance(config, dict):
        defaults.update({k: v for k, v in config.items() if k in defaults and isinstance(v, (int, float))})
        if config.get("do_sample") is False:
            defaults["temperature"] = 0.0
    return defaults


_claims: list[Any] = []  # files whose locks say that this process uses a device


def claim_device() -> Optional[str]:
    """The first GPU of this machine that no other worker has; None, for the library's choice, where there is none left."""
    import fcntl
    import tempfile

    for index, device in enumerate(devices()):
        if not device.supported or device.type == "cpu":
            continue
        file = open(os.path.join(tempfile.gettempdir(), f"gptoss-{os.getuid()}-{device.uuid}.lock"), "w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        _claims.append(file)
        return str(index)
    return None


_engines: dict[Settings, Engine] = {}
_lock = threading.Lock()


def answer_lines(settings: Settings, lines: list[Line]) -> list[str]:
    """What a worker does: one chunk at a time, with a model that stays loaded."""
    with _lock:
        kept = settings._replace(date="")
        if kept not in _engines:
            _engines.clear()
            _engines[kept] = Engine(settings)
        _engines[kept].settings = settings
        return _engines[kept].answer(lines)
