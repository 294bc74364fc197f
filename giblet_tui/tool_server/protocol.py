"""The Model Context Protocol on standard input and output: one JSON-RPC message per line.

Only tools are offered. Revisions of the protocol: https://modelcontextprotocol.io/specification. Messages are answered
in their order; each tool has a time limit of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, NamedTuple

REVISIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
"""Revisions that are spoken, newest first; what is used of them is alike."""
MAX_MESSAGE_BYTES = 1024 * 1024
_PARSE_ERROR, _INVALID_REQUEST, _NO_METHOD, _INVALID_PARAMS, _INTERNAL = -32700, -32600, -32601, -32602, -32603

JSON = Mapping[str, Any]


class Tool(NamedTuple):
    """One tool as a client sees it, and what it does."""

    name: str
    description: str
    parameters: JSON
    """JSON Schema of its arguments."""
    is_read_only: bool
    call: Callable[[JSON], str]
    """Returns the result as text. Raises ToolFailed."""


class ToolFailed(Exception):
    """A tool could not do what it was asked; the text says why and what to do."""


class _Refused(Exception):
    """A message that breaks the protocol."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class ToolServer:
    """Answers the messages of one client."""

    def __init__(self, version: str, instructions: str) -> None:
        self._tools: dict[str, Tool] = {}
        self._version = version
        self._instructions = instructions
        self.client = ""
        """Name that the client gave itself."""

    def offer(self, tools: Sequence[Tool]) -> None:
        """Offer these tools from now on."""
        self._tools = {tool.name: tool for tool in tools}

    def serve(self, source: IO[bytes], sink: IO[bytes]) -> None:
        """Answer until the client closes its end."""
        while line := source.readline(MAX_MESSAGE_BYTES + 1):
            if len(line) > MAX_MESSAGE_BYTES:
                while line and not line.endswith(b"\n"):
                    line = source.readline(MAX_MESSAGE_BYTES)
                answer: JSON | None = _error(None, _INVALID_REQUEST, f"At most {MAX_MESSAGE_BYTES} bytes a message.")
            else:
                answer = self._answer_line(line)
            if answer is not None:
                sink.write(json.dumps(answer).encode() + b"\n")
                sink.flush()

    def _answer_line(self, line: bytes) -> JSON | None:
        if not line.strip():
            return None
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            return _error(None, _PARSE_ERROR, "This is not JSON.")
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
            return _error(None, _INVALID_REQUEST, "This is not one JSON-RPC 2.0 message.")
        if "id" not in message or "method" not in message:
            return None  # a notification, or an answer to a question that was never asked
        request_id = message["id"]
        if not isinstance(request_id, str | int) or isinstance(request_id, bool):
            return _error(None, _INVALID_REQUEST, "The id of a request is a string or a whole number.")
        try:
            params = message.get("params", {})
            if not isinstance(params, dict):
                raise _Refused(_INVALID_PARAMS, "params must be an object.")
            return {"jsonrpc": "2.0", "id": request_id, "result": self._result(message["method"], params)}
        except _Refused as refusal:
            return _error(request_id, refusal.code, str(refusal))
        except Exception as error:  # a fault of ours must not end the client's session
            return _error(request_id, _INTERNAL, f"giblet failed: {type(error).__name__}")

    def _result(self, method: object, params: JSON) -> JSON:
        if method == "initialize":
            return self._initialized(params)
        if method == "ping":
            return {}
        if method == "tools/list":
            return {"tools": [_described(tool) for tool in self._tools.values()]}
        if method == "tools/call":
            return self._called(params)
        raise _Refused(_NO_METHOD, "giblet offers initialize, ping, tools/list and tools/call.")

    def _initialized(self, params: JSON) -> JSON:
        revision, client = params.get("protocolVersion"), params.get("clientInfo")
        self.client = str(client.get("name", ""))[:80] if isinstance(client, dict) else ""
        return {
            "protocolVersion": revision if revision in REVISIONS else REVISIONS[0],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "giblet", "version": self._version},
            "instructions": self._instructions,
        }

    def _called(self, params: JSON) -> JSON:
        tool, arguments = self._tools.get(str(params.get("name"))), params.get("arguments", {})
        if tool is None:
            raise _Refused(_INVALID_PARAMS, f"The tools are: {', '.join(self._tools)}.")
        if not isinstance(arguments, dict):
            raise _Refused(_INVALID_PARAMS, "arguments must be an object.")
        if unknown := set(arguments) - set(tool.parameters["properties"]):
            raise _Refused(_INVALID_PARAMS, f"{tool.name} has no argument {sorted(map(repr, unknown))[0]}.")
        try:
            text, is_error = tool.call(arguments), False
        except ToolFailed as failure:
            text, is_error = str(failure), True
        return {"content": [{"type": "text", "text": text}], "isError": is_error}


def _described(tool: Tool) -> JSON:
    return {
        "name": tool.name,
        "description": tool.description,
        "inputSchema": tool.parameters,
        "annotations": {"readOnlyHint": tool.is_read_only, "destructiveHint": False},
    }


def _error(request_id: str | int | None, code: int, message: str) -> JSON:
    return {"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message}}
