"""Conversations in OpenAI's Harmony format."""

from __future__ import annotations

import ctypes
import json
from ctypes import byref, c_int, c_size_t, c_void_p
from typing import Any, Iterable, Iterator, NamedTuple, Optional, Union

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


class HarmonyParser(Handle):
    """What the assistant generates after Tokenizer.render(), as messages. Never fails on what a model generates."""

    _exclusive = True

    def __init__(self, tokenizer: Tokenizer) -> None:
        handle = c_void_p()
        tokenizer._call(lib.gptoss_harmony_parser_create, byref(handle))
        self._own(handle, lib.gptoss_harmony_parser_release)

    def process(self, token: int) -> None:
        self._call(lib.gptoss_harmony_parser_process, token_array([token])[0])

    def reset(self) -> None:
        self._call(lib.gptoss_harmony_parser_reset)

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
    """The assistant's turn: iterate it for deltas as they come. At its end, or when it is closed, its messages join
    the chat's."""

    def __init__(self, chat: Chat, max_tokens: Optional[int]) -> None:
        self._chat = chat
        self._parser = HarmonyParser(chat.tokenizer)
        self._generation = chat.context.generate(chat.sampler, max_tokens=max_tokens)
        self._ended = False
        self.messages: list[Message] = []

    def __iter__(self) -> Reply:
        return self

    def __next__(self) -> Delta:
        parser = self._parser
        if self._ended:
            raise StopIteration
        try:
            for token in self._generation:
                parser.process(token)
                text = parser.delta
                if text:
                    return Delta(text, parser.channel, parser.recipient)
        except BaseException:
            self.close()
            raise
        self.close()
        raise StopIteration

    def close(self) -> None:
        """Ends the turn here."""
        if not self._ended:
            self._ended = True
            self._generation.close()
            self.messages = self._parser.messages
            self._chat.messages += self.messages

    def __enter__(self) -> Reply:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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

    tools: functions as {"name", "description", "parameters": JSON schema}, alone or as OpenAI's API wraps them.
    reasoning_effort: "low", "medium" or "high". date: of the conversation, such as "2025-06-28". sampler: by default
    temperature 1, which gpt-oss is made for. messages: what was said before, in Harmony's JSON; those of this chat,
    without the system's, are in the attribute of that name.
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
        context_length: int = 0,
    ) -> None:
        if reasoning_effort not in ("low", "medium", "high"):
            raise InvalidArgumentError(f'reasoning_effort is {reasoning_effort!r}: none of "low", "medium", "high"')
        self.tokenizer = model.tokenizer
        self.context = Context(model, context_length)
        self.sampler = sampler if sampler is not None else Sampler()
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
        functions = [tool.get("function", tool) for tool in tools]
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
