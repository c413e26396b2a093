"""The files in cluster/ by the schemas of who reads them, and what an upload to Ray takes along."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import ray
import typer
import yaml
from ray._private.runtime_env.packaging import create_package
from ray.autoscaler._private.util import prepare_config, validate_config

from raynas.cli import app
from tests.test_docs import parsed

ROOT = Path(__file__).parent.parent
LAUNCHED = ["config.yaml", "gcp.yaml", "local.yaml"]
ALL = [*LAUNCHED, "kuberay.yaml"]
IS_A = {"string": str, "boolean": bool, "integer": int, "object": dict}
MEGABYTE = 2**20


def text_of(name: str) -> str:
    return (ROOT / "cluster" / name).read_text(encoding="utf-8")


def launched(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(text_of(name))
    return config


def kuberay(kind: str) -> dict[str, Any]:
    (document,) = (d for d in yaml.safe_load_all(text_of("kuberay.yaml")) if d["kind"] == kind)
    return dict(document)


def commands(name: str) -> list[list[str]]:
    """Return the shell commands in a file's comments and, of a job, its entrypoint."""
    lines = re.findall(r"^#   (\w+ .*)$", text_of(name), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize("name", LAUNCHED)
def test_the_launcher_accepts_the_file(name: str) -> None:
    prepared = prepare_config(launched(name))
    validate_config(prepared)
    with pytest.raises(Exception, match="instance_type"):
        validate_config(prepare_config(launched(name) | {"instance_type": "large"}))


def test_machines_of_ones_own_are_all_workers_but_the_head() -> None:
    (nodes,) = prepare_config(launched("local.yaml"))["available_node_types"].values()
    assert nodes["min_workers"] == nodes["max_workers"] == 2


@pytest.mark.parametrize("name", LAUNCHED)
def test_the_project_is_installed_from_paths_that_exist(name: str) -> None:
    config = launched(name)
    paths = [path for path in config["file_mounts"].values() if not path.startswith("~")]
    assert all((ROOT / path).exists() for path in paths)
    assert any(re.search(r"pip install ~/raynas$", c) for c in config["setup_commands"])
    for remote, path in config["file_mounts"].items():
        assert remote.startswith("~/.ray/") or remote in {"~/raynas", f"~/raynas/{path}"}


def test_what_is_mounted_piece_by_piece_is_what_an_installation_takes() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    packages = {"raynas", *re.findall(r'^"raynas\.\w+" = "(\w+)"$', pyproject, re.MULTILINE)}
    needed = packages | {"pyproject.toml", "README.md", "LICENSE"}
    mounted = set(launched("local.yaml")["file_mounts"].values()) - {"~/.ray/auth_token"}
    copied = re.findall(r"^COPY (.*) \S+$", text_of("Dockerfile"), re.MULTILINE)
    assert mounted == needed == {word for words in copied for word in words.split()}


def test_machines_of_ones_own_ask_for_a_token() -> None:
    config = launched("local.yaml")
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert any("RAY_AUTH_MODE=token" in command for command in config["setup_commands"])


@pytest.mark.parametrize("name", ALL)
def test_each_says_which_storage_the_nodes_share(name: str) -> None:
    assert len(re.findall(r"^# Storage: ", text_of(name), re.MULTILINE)) == 1


@pytest.mark.parametrize("name", [*ALL, "Dockerfile"])
def test_ray_is_the_installed_one(name: str) -> None:
    versions = re.findall(r"rayproject/ray:([\d.]+)-|rayVersion: ([\d.]+)", text_of(name))
    assert {a or b for a, b in versions} <= {ray.__version__}
    assert versions or name == "local.yaml"  # which installs what pyproject.toml asks for


@pytest.mark.parametrize("name", ALL)
def test_commands_in_comments_are_understood(name: str) -> None:
    command = typer.main.get_command(app)
    searches = [c[c.index("--") + 1 :] for c in commands(name) if "run.py" in c]
    entrypoint = kuberay("RayJob")["spec"]["entrypoint"] if name == "kuberay.yaml" else ""
    searches += [shlex.split(entrypoint)[2:]] if entrypoint else []
    assert searches
    for search in searches:
        parsed(command, ["search", *search])
    named = [word for c in commands(name) for word in c if word.startswith("cluster/")]
    assert f"cluster/{name}" in named
    assert all((ROOT / path).is_file() for path in named)


def test_kuberay_knows_every_field() -> None:
    check(kuberay("RayJob"), "RayJob", fields())
    assert kuberay("RayJob")["apiVersion"] == "ray.io/v1"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["spec", "ray_cluster_spec"], {}),
        (["spec", "rayClusterSpec", "rayVersion"], 2.6),
        (["spec", "rayClusterSpec", "headGroupSpec", "rayStartParams"], {"num-cpus": 0}),
        (["spec", "rayClusterSpec", "workerGroupSpecs"], {}),
    ],
)
def test_another_field_or_type_is_seen(path: list[str], value: object) -> None:
    job = kuberay("RayJob")
    place: Any = job
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(AssertionError):
        check(job, "RayJob", fields())


def fields() -> dict[str, Any]:
    """Return the fields of KubeRay's resources that we use, with their types, as of its v1 API."""
    path = ROOT / "tests" / "fixtures" / "kuberay_fields.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


def check(value: Any, kind: Any, known: dict[str, Any]) -> None:
    """Check a value by a type's name, or by a list of one."""
    if isinstance(kind, list):
        assert isinstance(value, list)
        for each in value:
            check(each, kind[0], known)
    elif kind == "strings":
        assert all(isinstance(word, str) for pair in value.items() for word in pair)
    elif kind in IS_A:
        assert type(value) is IS_A[kind], (value, kind)
    else:
        assert value.keys() <= known[kind].keys()
        for name, field in value.items():
            check(field, known[kind][name], known)


def test_every_node_of_kuberay_has_the_volume_and_the_image() -> None:
    claim = kuberay("PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    spec = kuberay("RayJob")["spec"]["rayClusterSpec"]
    for group in spec["headGroupSpec"], *spec["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        (volume,), (mount,) = pod["volumes"], container["volumeMounts"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert (mount["name"], mount["mountPath"]) == (volume["name"], "/runs")
        assert container["image"] == "REGISTRY/raynas:0.1.0"
    assert "--out /runs/" in kuberay("RayJob")["spec"]["entrypoint"]


def test_an_upload_of_a_checkout_is_small(tmp_path: Path) -> None:
    """With an environment, runs, builds and history of a hundred megabytes beside the sources."""
    checkout = tmp_path / "checkout"
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in (name for name in listed if name and (ROOT / name).exists()):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout / name, follow_symlinks=False)
    for folder in ".git", ".venv/lib", "runs/first", "build", "dist", "raynas/core/__pycache__":
        (checkout / folder).mkdir(parents=True)
        with (checkout / folder / "ballast").open("wb") as ballast:
            os.truncate(ballast.fileno(), 20 * MEGABYTE)
    create_package(str(checkout), package := tmp_path / "package.zip", include_gitignore=True)
    names = zipfile.ZipFile(package).namelist()
    assert not [name for name in names if "ballast" in name]
    assert {"run.py", "raynas/__init__.py", "raynas/cluster/connect.py"} <= set(names)
    assert package.stat().st_size < 10 * MEGABYTE
