"""The wire against a real sshd: who is let in, what is refused before anything is sent, and how stalls end."""

from __future__ import annotations

from giblet_tui.remote.connection import connect
from tests.cluster.nodes import LoopbackNode


def test_bytes_arrive_whole(tensor01: LoopbackNode) -> None:
    content = bytes(range(256)) * 4000
    with connect(tensor01.node()) as connection:
        connection.put(content, "~/some folder/päth")
        assert b"".join(connection.get("~/some folder/päth")) == content
        assert b"".join(connection.get("~/some folder/päth", offset=7, limit=300_000)) == content[7:300_007]
    assert (tensor01.home / "some folder" / "päth").stat().st_mode & 0o777 == 0o600
