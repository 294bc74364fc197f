"""docs/your-study.md, feature spaces: its configuration, function and commands, with small stand-ins for models."""

import re
import shlex
import sys

from typer.testing import CliRunner

from giblet_train.cli.app import app
from tests.paths import ROOT
from tests.pretrained_models import needs_transformers, write_model

GUIDE = (ROOT / "docs" / "your-study.md").read_text()
SECTION = GUIDE[GUIDE.index("## Feature spaces") : GUIDE.index("## Layouts")]
STAND_INS = {"openai/clip-vit-base-patch32": "clip", "gpt2": "gpt2"}


def block(language, name):
    return re.search(rf"```{language}\n# {re.escape(name)}\n(.*?)```", SECTION, re.S)[1]


@needs_transformers
def test_the_commands_of_the_section(tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert set(re.findall(r"hf download (\S+)", SECTION)) == set(STAND_INS)
    for name, kind in STAND_INS.items():
        cache_folder = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        write_model(cache_folder / "snapshots" / "1", kind, depth=9)
        (cache_folder / "refs").mkdir()
        (cache_folder / "refs" / "main").write_text("1")
    (tmp_path / "spaces.yaml").write_text(block("yaml", "spaces.yaml"))
    (tmp_path / "ourlab.py").write_text(block("python", "ourlab.py"))
    lines = re.findall(r"^    (?:python -m giblet_train|giblet data) (.*)$", SECTION, re.M)
    commands = [shlex.split(line.replace(" local ", " ")) for line in lines]
    assert [argv[0] for argv in commands] == ["simulate", "discover", "check"]
    for argv in commands:
        result = CliRunner().invoke(app, argv if argv[0] == "simulate" else ["data", *argv], catch_exceptions=False)
        assert result.exit_code == 0, (argv, result.output)
    sys.modules.pop("ourlab", None)
