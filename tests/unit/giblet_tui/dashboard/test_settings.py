"""Theme and key map from a file."""

from pathlib import Path

import pytest

from giblet_train.schema.errors import ConfigError
from giblet_tui.dashboard.palette import binding_ids
from giblet_tui.dashboard.screens.stop import StopDialog
from giblet_tui.dashboard.settings import Settings, check_keys, read_settings, settings_path
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import dashboard, screen_text


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    assert read_settings(tmp_path / "dashboard.yaml") == Settings()


async def test_theme_and_keys_of_the_file_are_used(tmp_path: Path) -> None:
    path = tmp_path / "dashboard.yaml"
    path.write_text("theme: giblet-light\nkeys:\n  stop: f9\n")
    settings = read_settings(path)
    check_keys(settings, binding_ids())
    app = dashboard(fleets.healthy(), settings=settings)
    async with app.run_test(size=(80, 60)) as pilot:
        await pilot.pause()
        assert app.theme == "giblet-light"
        await pilot.press("S")
        await pilot.pause()
        assert not isinstance(app.screen, StopDialog)
        await pilot.press("question_mark")
        await pilot.pause()
        app.screen.query_one("#help").scroll_end(animate=False)
        await pilot.pause()
        assert any("f9" in row and "stop the run" in row for row in screen_text(app))
        await pilot.press("escape", "f9")
        await pilot.pause()
        assert isinstance(app.screen, StopDialog)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("keys: 3\n", "dashboard.yaml"),
        ("colour: red", "colour"),
        ("theme: [a", "line"),
        ("- a", "dashboard.yaml"),
        ("keys:\n  stop: 3\n", "dashboard.yaml: keys: expected text, got a whole number"),
    ],
)
def test_a_wrong_file_is_refused_in_words(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "dashboard.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_settings(path)


def test_an_unknown_theme_is_refused_with_the_themes_that_exist() -> None:
    with pytest.raises(ConfigError, match="no theme giblet-lihgt, did you mean") as refusal:
        dashboard(fleets.healthy(), settings=Settings(theme="giblet-lihgt"))
    assert "giblet-contrast" in str(refusal.value.remedy)


def test_a_key_for_an_unknown_action_is_refused() -> None:
    with pytest.raises(ConfigError, match="no action fly"):
        check_keys(Settings(keys={"fly": "f1"}), binding_ids())


def test_the_file_is_in_the_user_s_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert settings_path() == tmp_path / "giblet" / "dashboard.yaml"
