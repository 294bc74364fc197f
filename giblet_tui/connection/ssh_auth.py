"""Authentication in both directions: the host's key against known_hosts, then the user's keys. Never a second try.

Further questions of the server (a code of a second factor) go to the user at the terminal, once.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import paramiko

from giblet_tui.connection import host_keys, login_prompts
from giblet_tui.connection.host_keys import HostKey
from giblet_tui.connection.ssh_config import BY_OPENSSH, HostConfig
from giblet_tui.errors import NotLetIn, Unreachable
from giblet_tui.inventory.nodes import Node

LIMIT_S = 30.0
ANSWER_LIMIT_S = 150.0
"""Where a person is asked: longer than sshd's own LoginGraceTime."""
INTERACTIVE = "keyboard-interactive"
MAX_KEYS = 5
"""sshd hangs up after MaxAuthTries (6) failures."""


def check_host_key(key: HostKey, config: HostConfig, node: Node) -> None:
    """Raise NotLetIn with a specific explanation unless the key is known. Nothing was sent to the host yet."""
    verdict = host_keys.check(key, config.hostname, config.port, config.known_hosts, config.host_key_alias)
    if verdict.status == "known":
        return
    key_text = f"{key.kind} {key.fingerprint}"
    name = host_keys.lookup_name(config.hostname, config.port, config.host_key_alias)
    option = f"-F {node.ssh_config} " if node.ssh_config else ""
    trust = f"ssh {option}-o StrictHostKeyChecking=ask {config.alias} true"
    if verdict.status == "revoked":
        raise NotLetIn(
            f"The host key of {config.hostname} is revoked ({verdict.place}): {key_text}.", "Ask its administrator."
        )
    if verdict.status == "changed":
        file = verdict.place.rpartition(":")[0]
        raise NotLetIn(
            f"The host key of {config.hostname} changed: it now shows {key_text}, {verdict.place} has another. "
            "Someone may be listening in, or the machine was installed again.",
            f"Ask its administrator for the fingerprint. Only if it is this one: "
            f"ssh-keygen -R '{name}' -f {file} && {trust}",
        )
    if verdict.status == "certified":
        raise NotLetIn(
            f"{config.hostname} is known by a certificate authority ({verdict.place}), which giblet cannot check.",
            f"Set `transport: openssh` for the node in nodes.yaml. Or trust the key, if its fingerprint is right "
            f"({key_text}): {trust} -o HostKeyAlgorithms={key.kind}",
        )
    raise NotLetIn(
        f"{config.hostname} is not a known host: it shows {key_text}.",
        f"Ask its administrator whether that is its fingerprint; then answer yes to: {trust}",
    )


def log_in(transport: paramiko.Transport, config: HostConfig, node: Node) -> None:
    """Log in with the keys that ssh would use, each at most once. Raises NotLetIn if none is accepted."""
    tried: list[str] = []
    locked: list[str] = []
    agent = _agent(config)
    try:
        _offer(transport, config, node, _keys(config, agent, locked), tried, locked)
    finally:
        agent._close()  # type: ignore[attr-defined]


def _offer(
    transport: paramiko.Transport,
    config: HostConfig,
    node: Node,
    keys: Iterator[tuple[str, paramiko.PKey]],
    tried: list[str],
    locked: list[str],
) -> None:
    for name, key in keys:
        if len(tried) == MAX_KEYS:
            break
        tried.append(name)
        try:
            if methods := transport.auth_publickey(config.user, key):
                _answer(transport, config, methods)
            return None
        except paramiko.BadAuthenticationType as error:
            return _answer(transport, config, error.allowed_types)
        except paramiko.AuthenticationException:
            if not transport.is_active() and len(tried) == 1:  # after more tries, it hung up on our keys
                raise Unreachable(
                    f"The connection to {config.where} broke off during the login.", "Try again."
                ) from None
    if transport.is_active() and login_prompts.has_prompt_handler():
        with contextlib.suppress(paramiko.BadAuthenticationType):  # the server has no questions
            return _ask(transport, config)
    raise _refused(config, node, tried, locked)


def _answer(transport: paramiko.Transport, config: HostConfig, methods: list[str]) -> None:
    """Continue with the other methods that the server asks for. Raises NotLetIn if none is a question."""
    if INTERACTIVE not in methods:
        raise _no_keys_wanted(config, methods)
    if not login_prompts.has_prompt_handler():
        raise NotLetIn(
            f"{config.where} asks a question at every login (a code or a password), and nobody is here to answer.",
            "At a terminal, verbs pass it on. For the dashboard, log in once for all (`ControlMaster auto` and "
            f"`ssh -fN {config.alias}`), and set `transport: openssh` for the node in nodes.yaml.",
        )
    _ask(transport, config)


def _ask(transport: paramiko.Transport, config: HostConfig) -> None:
    """Pass the server's questions on. Raises NotLetIn if the answers are rejected, BadAuthenticationType."""

    def respond(title: str, instructions: str, prompts: Sequence[login_prompts.Prompt]) -> list[str]:
        return login_prompts.prompt(config.where, f"{title} {instructions}", prompts)

    try:
        if methods := transport.auth_interactive(config.user, respond):
            raise _no_keys_wanted(config, methods)
    except paramiko.BadAuthenticationType:
        raise
    except paramiko.AuthenticationException:
        raise NotLetIn(f"{config.where} did not take the answer.", "Try again with a new code.") from None


def _refused(config: HostConfig, node: Node, tried: list[str], locked: list[str]) -> NotLetIn:
    offered = f"it was offered {', '.join(tried)}" if tried else "there was no key to offer"
    if locked:
        remedy = f"Unlock a key first: ssh-add {locked[0]}"
    else:
        option = f"-F {node.ssh_config} " if node.ssh_config else ""
        remedy = f"See that this lets you in without a password: ssh {option}-o BatchMode=yes {config.alias} true"
    return NotLetIn(f"{config.where} does not let us in: {offered}.", remedy)


def _no_keys_wanted(config: HostConfig, allowed: list[str]) -> NotLetIn:
    return NotLetIn(
        f"{config.where} wants {', '.join(allowed) or 'nothing that it names'}; giblet logs in with keys and answers.",
        BY_OPENSSH,
    )


def _keys(config: HostConfig, agent: paramiko.agent.AgentSSH, locked: list[str]) -> Iterator[tuple[str, paramiko.PKey]]:
    """Yield the agent's keys that the configuration names, its other keys, then key files.

    Args:
        locked: receives the files that need a passphrase.
    """
    files = [path for path in config.identity_files if path.is_file()]
    named = {blob for path in config.identity_files for blob in [_public_blob(path)] if blob}
    agent_keys = sorted(agent.get_keys(), key=lambda key: key.asbytes() not in named)
    for agent_key in agent_keys:
        if agent_key.asbytes() in named or not config.identities_only:
            yield f"the agent's key {agent_key.fingerprint}", agent_key
    offered = {agent_key.asbytes() for agent_key in agent_keys}
    for path in files:
        try:
            key = paramiko.PKey.from_path(path)
        except (TypeError, paramiko.PasswordRequiredException):  # the former from the library below paramiko
            if _public_blob(path) not in offered:
                locked.append(str(path))
            continue
        except Exception:  # not a key that can be read: from_path raises what its parsers raise
            continue
        if key.asbytes() not in offered:
            yield str(path), key


def _public_blob(path: Path) -> bytes | None:
    """Read the public half that is stored next to a key file."""
    try:
        kind, encoded = path.with_name(path.name + ".pub").read_text().split()[:2]
        return paramiko.pkey.PublicBlob.from_string(f"{kind} {encoded}").key_blob
    except (OSError, ValueError, UnicodeDecodeError):
        return None


def _agent(config: HostConfig) -> paramiko.agent.AgentSSH:
    """Connect to the agent of IdentityAgent, or else of SSH_AUTH_SOCK; without one, return an agent without keys."""
    agent = paramiko.agent.AgentSSH()
    where = config.identity_agent
    if where == "SSH_AUTH_SOCK" or where.startswith("$"):
        where = os.environ.get(where.strip("${}"), "none")
    if where == "none":
        return agent
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(LIMIT_S)
    try:
        line.connect(str(Path(where).expanduser()))
        agent._connect(line)  # type: ignore[attr-defined]
    except (OSError, paramiko.SSHException):
        line.close()
    return agent
