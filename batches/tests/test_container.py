"""The image and the services of compose.yaml, as far as they can be tested without a registry of images."""

import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from itertools import takewhile

import pytest
import yaml
from django.conf import settings

from batches.conf import Config
from batches.tests.docs.test_code import assert_accepted
from batches.tests.support.environment import READ_BY_SETTINGS
from batches.tests.support.ports import free_port
from batches.tests.support.processes import Commands, run_python

ROOT = settings.BASE_DIR
#: Instruction and argument, of each stage.
LINES = re.sub(r" *\\\n *", " ", re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)).split(
    "\n"
)
STEPS = [tuple(line.split(" ", 1)) for line in LINES if line]
BUILD = list(takewhile(lambda step: "--from" not in step[1], STEPS))
FINAL = STEPS[len(BUILD) - 2 :]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "batches"}


def argument(instruction):
    return [text for name, text in FINAL if name == instruction][-1]


def test_the_image_runs_without_rights_and_is_watched():
    names = [name for name, _ in FINAL]
    assert argument("USER") == "10001"
    assert names.index("USER") < names.index("CMD")
    assert "/healthz" in argument("HEALTHCHECK")
    assert_accepted(json.loads(argument("CMD"))[1:])


def test_the_usual_services_need_no_broker():
    usual = {name for name, service in SERVICES.items() if "profiles" not in service}
    assert usual == {"web", "worker", "migrate", "postgres"}
    assert SERVICES.keys() - usual == {"celery", "beat", "rabbitmq", "nginx"}
    for name, service in SERVICES.items():
        assert set(service.get("depends_on", ())) <= (usual if name in usual else SERVICES.keys())


@pytest.mark.parametrize("name", OURS)
def test_each_service_has_a_command_and_variables_that_exist(name):
    known = READ_BY_SETTINGS | {f"BATCHES_{field.upper()}" for field in Config.__dataclass_fields__}
    assert OURS[name]["environment"].keys() <= known
    program, *words = shlex.split(OURS[name].get("command", "batches serve"))
    if program == "batches":
        assert_accepted(words)
    else:
        environ = os.environ | {"CELERY_BROKER_URL": "memory://"}
        command = [sys.executable, "-m", program, *words, "--help"]
        subprocess.run(command, cwd=ROOT, env=environ, check=True, capture_output=True)


def test_the_application_accepts_the_variables_of_its_services():
    """With the defaults of the file, and something for each secret, without which it does not start."""
    secret = secrets.token_urlsafe(50)
    environ = {
        name: re.sub(r"\$\{\w+(?::\?[^}]*)?\}", secret, re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value))
        for name, value in OURS["web"]["environment"].items()
    }
    required = {name for name, value in OURS["web"]["environment"].items() if ":?" in value}
    assert required == {"DATABASE_URL", "SECRET_KEY"}
    assert run_python("manage.py", "check", **environ).stdout == "System check identified no issues (0 silenced).\n"


# -- The steps of the Dockerfile, in a folder --------------------------------------------------------------------------


@pytest.mark.exhaustive  # it downloads the packages of the lock
@pytest.mark.timeout(900)
def test_the_steps_of_the_image_make_a_site_that_is_healthy(tmp_path):
    port = free_port()

    def here(text):
        """The paths of the image within this folder, and its port."""
        return re.sub(r"(?<![\w/])/(opt|src|data)\b", rf"{tmp_path}/\1", text).replace(":8000", f":{port}")

    build(tmp_path, here)
    variables = dict(word.split("=", 1) for word in shlex.split(here(argument("ENV"))))
    path = variables["PATH"].replace("$PATH", os.environ["PATH"])
    with Commands("") as commands:
        mark = {name: value for name, value in commands.environ.items() if name == "BATCHES_TEST_COMMANDS"}
        commands.environ = variables | mark | {"PATH": path, "PORT": port}
        site = commands.start_program(*json.loads(argument("CMD")), cwd=tmp_path)
        check = json.loads(here(argument("HEALTHCHECK")).partition("CMD ")[2])
        site.wait_for(lambda: "Serving on" in site.out)
        subprocess.run(check, env=commands.environ, check=True)


def build(folder, here):
    for name in ("src", "opt", "data"):
        (folder / name).mkdir()
    for instruction, text in BUILD:
        if instruction == "COPY":
            copy(text.split()[0], folder / "src")
        elif instruction == "RUN":
            script = re.sub(r"^python\b", sys.executable, here(text))
            subprocess.run(["bash", "-euc", script], cwd=folder / "src", check=True)


def copy(source, target):
    """Built from the files that .dockerignore leaves."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    wanted = [path for line in lines if line.startswith("!") for path in ROOT.glob(line[1:])]
    left_out = shutil.ignore_patterns("__pycache__", "tests")
    for path in wanted if source == "." else [ROOT / source]:
        if path.is_dir():
            shutil.copytree(path, target / path.name, ignore=left_out)
        else:
            shutil.copy(path, target)
