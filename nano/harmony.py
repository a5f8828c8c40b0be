"""Harmony: messages in the JSON form of OpenAI's harmony library, and the text that a model reads and writes."""
import json


def system_message(identity, effort, date=None, cutoff="2024-06", channels=True):
    return {"role": "system", "content": [{
        "type": "system_content", "model_identity": identity, "reasoning_effort": effort,
        "conversation_start_date": date, "knowledge_cutoff": cutoff,
        "channel_config": {"valid_channels": ["analysis", "commentary", "final"], "channel_required": True}
        if channels else None, "tools": None}]}


def text_message(role, text, **more):
    return {"role": role, "content": [{"type": "text", "text": text}], **more}


def developer_message(instructions, functions=None):
    tools = functions and {"functions": {"name": "functions", "description": None, "tools": functions}}
    return {"role": "developer", "content": [{"type": "developer_content", "instructions": instructions,
                                              "tools": tools}]}


def render_type(schema):
    if "enum" in schema and schema["type"] == "string":
        return " | ".join(json.dumps(v) for v in schema["enum"])
    return {"integer": "number"}.get(schema["type"], schema["type"])


def render_function(f):
    lines = [f"// {f['description']}"] if f.get("description") else []
    schema = f.get("parameters") or {}
    if not schema.get("properties"):
        return "\n".join(lines + [f"type {f['name']} = () => any;"])
    lines.append(f"type {f['name']} = (_: {{")
    for name, p in schema["properties"].items():
        if p.get("description"):
            lines.append(f"// {p['description']}")
        default = f" // default: {p['default']}" if "default" in p else ""
        optional = "" if name in schema.get("required", []) else "?"
        lines.append(f"{name}{optional}: {render_type(p)},{default}")
    return "\n".join(lines + ["}) => any;"])


def render_content(message, has_functions):
    content = message["content"][0]
    if content["type"] == "text":
        return content["text"]
    sections = []
    if content["type"] == "system_content":
        head = [content["model_identity"]]
        if content["knowledge_cutoff"]:
            head.append("Knowledge cutoff: " + content["knowledge_cutoff"])
        if content["conversation_start_date"]:
            head.append("Current date: " + content["conversation_start_date"])
        sections.append("\n".join(head))
        if content["reasoning_effort"]:
            sections.append("Reasoning: " + content["reasoning_effort"].lower())
        if content["channel_config"]:
            channels = ("# Valid channels: analysis, commentary, final. "
                        "Channel must be included for every message.")
            if has_functions:
                channels += "\nCalls to these tools must go to the commentary channel: 'functions'."
            sections.append(channels)
    else:
        if content["instructions"]:
            sections.append("# Instructions\n\n" + content["instructions"])
        if content["tools"]:
            functions = content["tools"]["functions"]["tools"]
            body = "\n\n".join(render_function(f) for f in functions)
            sections.append("# Tools\n\n## functions\n\nnamespace functions {\n\n" + body +
                            "\n\n} // namespace functions")
    return "\n\n".join(sections)


def render(messages):
    """What the model reads: every message, without the analysis of turns that are over, then `<|start|>assistant`."""
    has_functions = any(m["content"][0].get("tools") for m in messages if m["role"] == "developer")
    finals = [i for i, m in enumerate(messages) if m.get("channel") == "final"]
    text = ""
    for i, m in enumerate(messages):
        if m.get("channel") == "analysis" and finals and i < finals[-1]:
            continue
        text += "<|start|>" + (m["name"] if m["role"] == "tool" else m["role"])
        if m.get("recipient"):
            text += " to=" + m["recipient"]
        if m.get("channel"):
            text += "<|channel|>" + m["channel"]
        if m.get("content_type"):
            text += " " + m["content_type"]
        call = m["role"] == "assistant" and m.get("recipient")
        text += "<|message|>" + render_content(m, has_functions) + ("<|call|>" if call else "<|end|>")
    return text + "<|start|>assistant"


def final(text, analysis=None):
    """The assistant's completion: with its analysis, or none, then the answer."""
    start = f"<|channel|>analysis<|message|>{analysis}<|end|><|start|>assistant" if analysis else ""
    return start + f"<|channel|>final<|message|>{text}<|return|>"


def call(name, arguments, analysis=None):
    start = f"<|channel|>analysis<|message|>{analysis}<|end|><|start|>assistant" if analysis else ""
    return start + (f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>"
                    f"{json.dumps(arguments, ensure_ascii=False)}<|call|>")
