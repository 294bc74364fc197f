"""Authentication in both directions: the host's key against known_hosts, then the user's keys. Never a second try.

Further questions of the server (a code of a second factor) go to the user at the terminal, once.
"""

from __future__ import annotations

import base64
import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import paramiko

from giblet_tui.connection import host_keys, login_prompts
from giblet_tui.connection.host_keys import HostKey
from giblet_tui.connection.ssh_config import BY_OPENSSH, HostConfig, is_file
from giblet_tui.errors import KeysRefused, LoginRefused, NotLetIn, Unreachable
from giblet_tui.inventory.nodes import Node

LIMIT_S = 30.0
ANSWER_LIMIT_S = 150.0
"""Where a person is asked: longer than sshd's own LoginGraceTime."""
INTERACTIVE, PASSWORD = "keyboard-interactive", "password"


@dataclass
class _KeyFiles:
    """Key files that cannot be offered."""

    locked: list[str] = field(default_factory=list)
    """They need a passphrase."""
    unreadable: list[str] = field(default_factory=list)
    """Only the system's ssh can use them, such as keys on a security token."""


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
        raise KeysRefused(
            f"{config.hostname} is known by a certificate authority ({verdict.place}), which giblet cannot check.",
            f"Set `transport: openssh` for the node in nodes.yaml. Or trust the key, if its fingerprint is right "
            f"({key_text}): {trust} -o HostKeyAlgorithms={key.kind}",
        )
    # Where the configuration lets ssh accept an unknown host, ssh connects; here only known keys are accepted.
    kind = NotLetIn if config.asks_for_unknown_hosts else KeysRefused
    raise kind(
        f"{config.hostname} is not a known host: it shows {key_text}.",
        f"Ask its administrator whether that is its fingerprint; then answer yes to: {trust}",
    )


def log_in(transport: paramiko.Transport, config: HostConfig, node: Node) -> None:
    """Log in with the keys that ssh would use, each at most once. Raises NotLetIn if none is accepted."""
    files = _KeyFiles()
    agent = _agent(config)
    try:
        _offer(transport, config, node, _keys(config, agent, files), files)
    finally:
        agent._close()  # type: ignore[attr-defined]


def _offer(
    transport: paramiko.Transport,
    config: HostConfig,
    node: Node,
    keys: Iterator[tuple[str, paramiko.PKey]],
    files: _KeyFiles,
) -> None:
    offers: list[str] = []
    for name, key in keys if config.offers_keys else ():
        offers.append(name)
        try:
            if methods := transport.auth_publickey(config.user, key):
                _answer(transport, config, methods)
            return None
        except paramiko.BadAuthenticationType as error:
            return _answer(transport, config, error.allowed_types)
        except paramiko.AuthenticationException:
            if not transport.is_active() and len(offers) == 1:  # after more tries, it hung up on our keys
                raise Unreachable(
                    f"The connection to {config.where} broke off during the login.", "Try again."
                ) from None
            if not transport.is_active():
                raise LoginRefused(
                    f"{config.where} hung up after it was offered {len(offers)} keys: {', '.join(offers)}.",
                    f"Name the right one in the `Host` block of {config.alias} in the ssh config: IdentityFile KEY, and"
                    " IdentitiesOnly yes.",
                ) from None
    if transport.is_active() and login_prompts.has_prompt_handler():
        try:
            return _ask(transport, config)
        except paramiko.BadAuthenticationType as error:  # the server has no questions
            if PASSWORD in error.allowed_types:
                return _ask_password(transport, config)
    raise _refused(config, node, offers, files)


def _answer(transport: paramiko.Transport, config: HostConfig, methods: list[str]) -> None:
    """Continue with the other methods that the server asks for. Raises NotLetIn if none is a question."""
    if INTERACTIVE not in methods and PASSWORD not in methods:
        raise _no_keys_wanted(config, methods)
    if not login_prompts.has_prompt_handler():
        raise LoginRefused(
            f"{config.where} asks a question at every login (a code or a password), and nobody is here to answer.",
            "At a terminal, verbs pass it on. For the dashboard, log in once for all (`ControlMaster auto` and "
            f"`ssh -fN {config.alias}`), and set `transport: openssh` for the node in nodes.yaml.",
        )
    if INTERACTIVE in methods:
        _ask(transport, config)
    else:
        _ask_password(transport, config)


def _ask_password(transport: paramiko.Transport, config: HostConfig) -> None:
    """Ask the user for the account's password, once. Raises NotLetIn if it is rejected."""
    (password,) = login_prompts.prompt(config.where, "", [("Password: ", False)])
    try:
        if methods := transport.auth_password(config.user, password, fallback=False):
            raise _no_keys_wanted(config, methods)
    except paramiko.AuthenticationException:
        raise NotLetIn(f"{config.where} did not accept the password.", "Try again.") from None


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


def _refused(config: HostConfig, node: Node, offers: list[str], files: _KeyFiles) -> LoginRefused:
    """Return the refusal. The system's ssh may try only what was not offered yet: each refused key counts there."""
    history = f"it was offered {', '.join(offers)}" if offers else "there was no key to offer"
    option = f"-F {node.ssh_config} " if node.ssh_config else ""
    if not config.offers_keys:
        remedy = "The ssh config allows it no keys (PubkeyAuthentication, PreferredAuthentications)."
    elif files.locked:
        remedy = f"Unlock a key first: ssh-add {files.locked[0]}"
    elif offers:
        remedy = f"Put a key of yours there: ssh-copy-id {option}{config.alias}"
    else:
        remedy = f"Make a key (ssh-keygen -t ed25519), then put it there: ssh-copy-id {option}{config.alias}"
    kind = KeysRefused if files.unreadable or not (offers or files.locked) else LoginRefused
    return kind(f"{config.where} does not let us in: {history}.", remedy)


def _no_keys_wanted(config: HostConfig, methods: list[str]) -> KeysRefused:
    return KeysRefused(
        f"{config.where} wants {', '.join(methods) or 'nothing that it names'}; giblet logs in with keys and answers.",
        BY_OPENSSH,
    )


def _keys(config: HostConfig, agent: paramiko.agent.AgentSSH, rest: _KeyFiles) -> Iterator[tuple[str, paramiko.PKey]]:
    """Yield the agent's keys that the configuration names, its other keys, then key files.

    Args:
        rest: receives the files that cannot be offered.
    """
    files = [path for path in config.identity_files if is_file(path)]
    file_blobs = {blob for path in config.identity_files for blob in [_public_blob(path)] if blob}
    agent_keys = sorted(agent.get_keys(), key=lambda key: key.asbytes() not in file_blobs)
    for agent_key in agent_keys:
        if agent_key.asbytes() in file_blobs or not config.identities_only:
            yield f"the agent's key {agent_key.fingerprint}", agent_key
    agent_blobs = {agent_key.asbytes() for agent_key in agent_keys}
    for path in files:
        try:
            key = paramiko.PKey.from_path(path)
        except (TypeError, paramiko.PasswordRequiredException):  # the former from the library below paramiko
            if _public_blob(path) not in agent_blobs:
                rest.locked.append(str(path))
            continue
        except Exception:  # not a key that can be read: from_path raises what its parsers raise
            if _public_blob(path) is not None and path.suffix != ".pub":
                rest.unreadable.append(str(path))
            continue
        if key.asbytes() not in agent_blobs:
            yield str(path), key


def _public_blob(path: Path) -> bytes | None:
    """Return the public half of a key: from the file itself if that is public, else from the file next to it.

    An encrypted private key in OpenSSH's format contains its public half in clear.
    """
    for candidate in (path, path.with_name(path.name + ".pub")):
        with contextlib.suppress(OSError, ValueError, UnicodeDecodeError):
            kind, encoded = candidate.read_text().split()[:2]
            return bytes(paramiko.pkey.PublicBlob.from_string(f"{kind} {encoded}").key_blob)
    with contextlib.suppress(OSError, ValueError):
        return _embedded_public_blob(path.read_bytes())
    return None


def _embedded_public_blob(content: bytes) -> bytes | None:
    """Return the public half in a private key file (PROTOCOL.key of OpenSSH). Raises ValueError for other files."""
    begin, end = b"-----BEGIN OPENSSH PRIVATE KEY-----", b"-----END OPENSSH PRIVATE KEY-----"
    data = base64.b64decode(content[content.index(begin) + len(begin) : content.index(end)])
    magic = b"openssh-key-v1\0"
    if not data.startswith(magic):
        return None
    fields, offset = [], len(magic)
    for position in range(5):  # cipher, key derivation and its options; number of keys; first public key
        if position == 3:
            offset += 4
            continue
        size = int.from_bytes(data[offset : offset + 4], "big")
        fields.append(data[offset + 4 : offset + 4 + size])
        offset += 4 + size
    return fields[-1] or None


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
