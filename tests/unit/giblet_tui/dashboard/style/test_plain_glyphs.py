"""ASCII in place of braille and glyphs, cell for cell."""

import pytest
from rich.cells import cell_len

from giblet_train.schema.errors import ConfigError
from giblet_tui.dashboard.style.plain_glyphs import needs_plain_glyphs, plain_text


@pytest.mark.parametrize(
    ("text", "plain"),
    [("● running", "* running"), ("⠁⣀⣿ ", "'.: "), ("✔ PASS › ON TRACK", "v PASS > ON TRACK"), ("━━╸──", "===--")],
)
def test_characters_are_replaced_one_for_one(text: str, plain: str) -> None:
    assert plain_text(text) == plain


def test_unknown_and_wide_characters_keep_their_cells() -> None:
    for text in ("é全🙂", "▒", "a\u00a0b"):
        assert plain_text(text).isascii() and cell_len(plain_text(text)) == cell_len(text)


@pytest.mark.parametrize(
    ("terminal", "setting", "plain"),
    [("linux", "", True), ("linux", "unicode", False), ("xterm-256color", "ascii", True), ("vt100", "", True)],
)
def test_terminals_without_braille_are_known(
    monkeypatch: pytest.MonkeyPatch, terminal: str, setting: str, plain: bool
) -> None:
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setenv("GIBLET_GLYPHS", setting)
    assert needs_plain_glyphs() == plain


def test_a_setting_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIBLET_GLYPHS", "Asci")
    with pytest.raises(ConfigError, match=r"GIBLET_GLYPHS=asci is neither ascii nor unicode, did you mean .ascii."):
        needs_plain_glyphs()
