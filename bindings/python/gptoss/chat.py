"""Conversations in OpenAI's Harmony format."""

from __future__ import annotations

import ctypes
import enum
import json
import secrets
from ctypes import byref, c_int, c_size_t, c_void_p
from typing import Any, Generator, Iterable, Iterator, NamedTuple, Optional, Union

from ._handle import Handle
from ._library import lib
from .context import Context
from .errors import InvalidArgumentError
from .model import Model, Tokenizer, token_array
from .sampler import Sampler

Message = dict[str, Any]

IDENTITY = "You are ChatGPT, a large language model trained by OpenAI."
KNOWLEDGE_CUTOFF = "2024-06"
CHANNELS = ("analysis", "commentary", "final")


class Delta(NamedTuple):
    """A piece of text as it is generated."""

    text: str
    channel: str  # "analysis" is reasoning, "final" the answer, "commentary" what goes with tool calls
    recipient: str  # "functions.NAME" while text is the arguments of a tool call, else ""


class ToolCall(NamedTuple):
    name: str
    arguments: str  # JSON, if the model kept to the format


class StreamState(enum.Enum):
    """Where in a message a HarmonyParser is."""

    EXPECT_START = 0
    HEADER = 1
    CONTENT = 2


class HarmonyParser(Handle):
    """What the assistant generates after Tokenizer.render(), as messages. Never fails on what a model generates.

    The names current_role and the like are those of StreamableParser in OpenAI's openai_harmony: there and here they are
    None where there is none, and the properties role, channel, recipient, content_type and delta are "".
    """

    _exclusive = True

    def __init__(self, tokenizer: Tokenizer) -> None:
        handle = c_void_p()
        tokenizer._call(lib.gptoss_harmony_parser_create, byref(handle))
        self._own(handle, lib.gptoss_harmony_parser_release)
        self._tokens: list[int] = []

    def process(self, token: int) -> HarmonyParser:
        self._call(lib.gptoss_harmony_parser_process, token_array([token])[0])
        self._tokens.append(token)
        return self

    def reset(self) -> None:
        self._call(lib.gptoss_harmony_parser_reset)
        self._tokens.clear()

    def _text(self, getter: Any) -> str:
        text, size = c_void_p(), c_size_t()
        with self._use() as handle:
            getter(handle, byref(text), byref(size))
            return ctypes.string_at(text, size.value).decode("utf-8", "replace")

    @property
    def role(self) -> str:
        return self._text(lib.gptoss_harmony_parser_get_role)

    @property
    def channel(self) -> str:
        return self._text(lib.gptoss_harmony_parser_get_channel)

    @property
    def recipient(self) -> str:
        return self._text(lib.gptoss_harmony_parser_get_recipient)

    @property
    def content_type(self) -> str:
        return self._text(lib.gptoss_harmony_parser_get_content_type)

    @property
    def delta(self) -> str:
        """The text that the last token added, whole characters only."""
        return self._text(lib.gptoss_harmony_parser_get_delta)

    @property
    def state(self) -> StreamState:
        return StreamState(self._get(lib.gptoss_harmony_parser_get_state, c_int))

    @property
    def current_role(self) -> Optional[str]:
        return self.role or None

    @property
    def current_channel(self) -> Optional[str]:
        return self.channel or None

    @property
    def current_recipient(self) -> Optional[str]:
        return self.recipient or None

    @property
    def current_content_type(self) -> Optional[str]:
        return self.content_type or None

    @property
    def current_content(self) -> str:
        """The text so far of the message being generated."""
        return _text_of(self.messages[-1]) if self.state is StreamState.CONTENT else ""

    @property
    def last_content_delta(self) -> Optional[str]:
        return self.delta or None

    @property
    def tokens(self) -> list[int]:
        """All that were processed."""
        return list(self._tokens)

    @property
    def is_malformed(self) -> bool:
        return bool(self._get(lib.gptoss_harmony_parser_is_malformed, c_int))

    @property
    def messages(self) -> list[Message]:
        """The messages so far, an unfinished one last."""
        size = c_size_t()
        with self._use() as handle:
            lib.gptoss_harmony_parser_get_messages(handle, None, 0, byref(size))
            text = ctypes.create_string_buffer(size.value)
            lib.gptoss_harmony_parser_get_messages(handle, text, size.value, byref(size))
        messages: list[Message] = json.loads(text.raw)
        return messages


class Reply(Iterator[Delta]):
    """The assistant's turn: iterate it for deltas as they come, by `for` or by `async for`; `await` alone waits for its end.
    At its end, or when it is closed, its messages join the chat's. parser: the state after the last delta."""

    def __init__(self, chat: Chat, max_tokens: Optional[int]) -> None:
        self._chat = chat
        self.parser = HarmonyParser(chat.tokenizer)
        self._generation = chat.context.generate(chat.sampler, max_tokens=max_tokens)
        self._ended = False
        self.messages: list[Message] = []

    def __iter__(self) -> Reply:
        return self

    def __next__(self) -> Delta:
        if self._ended:
            raise StopIteration
        try:
            for token in self._generation:
                delta = self._delta(token)
                if delta is not None:
                    return delta
        except BaseException:
            self.close()
            raise
        self.close()
        raise StopIteration

    def _delta(self, token: int) -> Optional[Delta]:
        parser = self.parser.process(token)
        text = parser.delta
        return Delta(text, parser.channel, parser.recipient) if text else None

    def __aiter__(self) -> Reply:
        return self

    async def __anext__(self) -> Delta:
        if self._ended:
            raise StopAsyncIteration
        try:
            async for token in self._generation:
                delta = self._delta(token)
                if delta is not None:
                    return delta
        except BaseException:
            await self.aclose()
            raise
        self.close()
        raise StopAsyncIteration

    def __await__(self) -> Generator[Any, None, Reply]:
        return self._ended_later().__await__()

    async def _ended_later(self) -> Reply:
        async for _ in self:
            pass
        return self

    async def aclose(self) -> None:
        """close() for event loops: they go on while the device ends its work."""
        try:
            await self._generation.aclose()
        finally:
            self.close()

    def close(self) -> None:
        """Ends the turn here."""
        if not self._ended:
            self._ended = True
            self._generation.close()
            self.messages = self.parser.messages
            self._chat.messages += self.messages

    def __enter__(self) -> Reply:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Reply:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _finish(self) -> None:
        for _ in self:
            pass

    def _text(self, channel: str) -> str:
        self._finish()
        return "\n".join(
            _text_of(message)
            for message in self.messages
            if message.get("channel") == channel and not message.get("recipient")
        )

    @property
    def text(self) -> str:
        """The answer. Like the properties below, generates what has not been iterated yet."""
        return self._text("final")

    @property
    def reasoning(self) -> str:
        return self._text("analysis")

    @property
    def tool_calls(self) -> list[ToolCall]:
        """Answer each by Chat.add_tool_result(), then call Chat.send() without a message."""
        self._finish()
        calls = [message for message in self.messages if message.get("recipient", "").startswith("functions.")]
        return [ToolCall(call["recipient"].partition(".")[2], _text_of(call)) for call in calls]

    @property
    def stop_reason(self) -> Optional[str]:
        return self._generation.stop_reason


def _text_of(message: Message) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


class Chat:
    """A conversation with a model.

    tools: functions as {"name", "description", "parameters": JSON schema}, alone or as OpenAI's API wraps them; only the
    name is required. reasoning_effort: "low", "medium" or "high". date: of the conversation, such as "2025-06-28".
    sampler: by default temperature 1, which gpt-oss is made for, and the seed. seed: by default a random one, so that
    every chat differs. messages: what was said before, in Harmony's JSON; those of this chat, without the system's, are
    in the attribute of that name.
    """

    def __init__(
        self,
        model: Model,
        *,
        messages: Iterable[Message] = (),
        instructions: Optional[str] = None,
        tools: Iterable[dict[str, Any]] = (),
        reasoning_effort: str = "medium",
        date: Optional[str] = None,
        sampler: Optional[Sampler] = None,
        seed: Optional[int] = None,
        context_length: int = 0,
    ) -> None:
        if sampler is not None and seed is not None:
            raise InvalidArgumentError("a Chat takes a sampler or a seed: a sampler has one of its own")
        if reasoning_effort not in ("low", "medium", "high"):
            raise InvalidArgumentError(f'reasoning_effort is {reasoning_effort!r}: none of "low", "medium", "high"')
        self.tokenizer = model.tokenizer
        self.context = Context(model, context_length)
        self.sampler = sampler or Sampler(seed=secrets.randbits(64) if seed is None else seed)
        self.messages = list(messages)
        system: dict[str, Any] = {
            "type": "system_content",
            "model_identity": IDENTITY,
            "knowledge_cutoff": KNOWLEDGE_CUTOFF,
            "conversation_start_date": date,
            "reasoning_effort": reasoning_effort.capitalize(),
            "channel_config": {"valid_channels": CHANNELS, "channel_required": True},
        }
        self._preamble: list[Message] = [{"role": "system", "content": [system]}]
        functions = [{"description": "", **tool.get("function", tool)} for tool in tools]
        if instructions is not None or functions:
            developer: dict[str, Any] = {"type": "developer_content", "instructions": instructions}
            if functions:
                developer["tools"] = {"functions": {"name": "functions", "tools": functions}}
            self._preamble.append({"role": "developer", "content": [developer]})

    def send(self, message: Union[str, Message, None] = None, *, max_tokens: Optional[int] = None) -> Reply:
        """Says something, if anything, and lets the assistant answer.

        Raises ContextOverflowError, and forgets what was said, if the conversation has outgrown the context: drop
        messages from the front of Chat.messages. An answer ends early where the context is full; see
        Reply.stop_reason.
        """
        if message is not None:
            message = {"role": "user", "content": message} if isinstance(message, str) else message
        said = [] if message is None else [message]
        tokens = self.tokenizer.render({"messages": [*self._preamble, *self.messages, *said]})
        self.context.reset()
        self.context.append(tokens)
        self.messages += said
        return Reply(self, max_tokens)

    def add_tool_result(self, name: str, output: str) -> None:
        """Adds what a tool that was called has returned."""
        self.messages.append(
            {
                "role": "tool",
                "name": f"functions.{name}",
                "recipient": "assistant",
                "channel": "commentary",
                "content": [{"type": "text", "text": output}],
            }
        )

    def close(self) -> None:
        self.context.close()
        self.tokenizer.close()

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
