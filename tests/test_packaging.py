"""What is installed, what is imported, and what the repository must not name."""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parent.parent
TOP_LEVEL = ("algorithms", "search_spaces", "cluster")
LEFT_OUT = {"runs", "build", "dist", "__pycache__"}

# Written so that this file does not contain what it forbids.
REGISTRY_HOST = re.compile(
    r"\b(?:pypi|pythonhosted|anaconda|npmjs)\.(?:org|com)|\bdownload\.pytorch\."
)
MACHINE_PATH = re.compile(r"(?<![\w.~$}])/(?:work|root|home|Users)/")


def project() -> dict[str, Any]:
    """Return pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def cluster_file() -> dict[str, Any]:
    """Return cluster/config.yaml as the launcher reads it."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "cluster" / "config.yaml").read_text("utf-8"))
    return config


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a fresh interpreter that sees the checkout first."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def text_files() -> Iterator[tuple[str, str]]:
    """Yield path and text of every file that is, or would be, committed."""
    for path in committed():
        if path.is_file() and not path.is_symlink():
            try:
                yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue  # no text


def committed() -> list[Path]:
    """Ask git for the project's files, and walk the folder where git cannot tell."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return [path for path in ROOT.rglob("*") if not is_left_out(path.relative_to(ROOT))]
    return [ROOT / name for name in listing.stdout.split("\0") if name]


def is_left_out(path: Path) -> bool:
    """Tell whether a path lies in a cache, a build or an environment."""
    hidden = any(part.startswith(".") and part != ".ci" for part in path.parts[:-1])
    return hidden or not LEFT_OUT.isdisjoint(path.parts) or ".egg-info/" in f"{path}/"


def test_every_package_is_listed_and_every_listed_one_exists() -> None:
    folders = {"raynas": ROOT / "raynas"} | {f"raynas.{name}": ROOT / name for name in TOP_LEVEL}
    found = {
        ".".join((package, *init.parent.relative_to(folder).parts))
        for package, folder in folders.items()
        for init in folder.rglob("__init__.py")
    }
    assert set(project()["tool"]["setuptools"]["packages"]) == found


def test_the_top_level_folders_are_mapped_into_raynas() -> None:
    mapped = project()["tool"]["setuptools"]["package-dir"]
    assert mapped == {"raynas": "raynas"} | {f"raynas.{name}": name for name in TOP_LEVEL}


def test_package_data_exists() -> None:
    setuptools = project()["tool"]["setuptools"]
    for package, names in setuptools["package-data"].items():
        folder = ROOT / setuptools["package-dir"][package]
        assert [name for name in names if not (folder / name).is_file()] == []


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_a_relative_link_shows_the_folder_inside_raynas(name: str) -> None:
    assert (ROOT / "raynas" / name).readlink() == Path("..", name)


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_a_top_level_folder_refuses_its_short_name(name: str) -> None:
    ran = python(f"import {name}")
    assert f"ImportError: import raynas.{name}, not {name}" in ran.stderr


def test_a_folder_has_one_name_whichever_way_it_is_found() -> None:
    for name in TOP_LEVEL:
        spec = importlib.util.find_spec(f"raynas.{name}")
        assert spec is not None
        assert Path(str(spec.origin)).resolve() == ROOT / name / "__init__.py"


def test_importing_raynas_loads_nothing_heavy() -> None:
    ran = python("import raynas, sys; print(*{'torch', 'ray', 'pandas'} & sys.modules.keys())")
    assert (ran.stdout, ran.stderr) == ("\n", "")


def test_the_version_is_said_once() -> None:
    ran = python("import raynas; print(raynas.__version__)")
    assert ran.stdout.strip() == project()["project"]["version"]


@pytest.mark.parametrize("forbidden", [REGISTRY_HOST, MACHINE_PATH])
def test_no_file_names_a_registry_host_or_a_path_of_one_machine(forbidden: re.Pattern[str]) -> None:
    found = [
        f"{name}:{number}: {line.strip()}"
        for name, text in text_files()
        for number, line in enumerate(text.splitlines(), start=1)
        if forbidden.search(line)
    ]
    assert found == []


def test_the_forbidden_is_recognised() -> None:
    host, path = "files.python" + "hosted.org", "/ho" + "me/me/raynas"
    assert REGISTRY_HOST.search(f"--index-url https://{host}/simple")
    assert MACHINE_PATH.search(f'ROOT = Path("{path}")')
    assert not MACHINE_PATH.search(f"~{path} and https://example.org{path}")


def test_the_cluster_file_passes_the_launchers_own_checks() -> None:
    prepared = prepare_config(cluster_file())
    validate_config(prepared)
    worker = prepared["available_node_types"]["worker"]
    assert (worker["min_workers"], worker["max_workers"]) == (0, 4)


def test_the_launchers_checks_refuse_a_wrong_word() -> None:
    with pytest.raises(Exception, match="instance_type"):
        validate_config(prepare_config(cluster_file() | {"instance_type": "m5.xlarge"}))


def test_the_cluster_runs_a_ray_that_the_project_accepts() -> None:
    (floor,) = re.findall(r"ray\[.*?\]>=([\d.]+)", " ".join(project()["project"]["dependencies"]))
    (image,) = re.findall(r":([\d.]+)-py3", cluster_file()["docker"]["image"])
    assert tuple(map(int, image.split(".")[:2])) >= tuple(map(int, floor.split(".")))


def test_the_cluster_gets_the_checkout_without_its_ballast() -> None:
    config = cluster_file()
    assert config["file_mounts"] == {"~/raynas": "."}
    assert {"/.git", "/.venv", "/runs"} <= set(config["rsync_exclude"])


def test_a_script_on_a_node_finds_the_cluster() -> None:
    assert "echo 'export RAY_ADDRESS=auto' >> ~/.bashrc" in cluster_file()["setup_commands"]


def test_an_upload_to_ray_leaves_the_ballast_behind() -> None:
    patterns = (ROOT / ".rayignore").read_text(encoding="utf-8").splitlines()
    assert {".git", ".venv", "runs", "__pycache__"} <= set(patterns)


def test_run_py_searches_with_the_flags_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[list[str]] = []
    cli = ModuleType("raynas.cli")
    vars(cli)["main"] = heard.append
    monkeypatch.setitem(sys.modules, "raynas.cli", cli)
    monkeypatch.setattr(sys, "argv", ["run.py", "mlp", "--algo", "random"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
    assert heard == [["search", "mlp", "--algo", "random"]]
