"""The files for CI and containers in examples/, as far as they can be run without GitHub and Docker."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest
import yaml

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCANHOOK = os.environ["SCANHOOK_BIN"]
# How long to wait for something that must happen. Only a failing test waits so long.
PATIENCE = 60
# Without settings of whoever runs the tests.
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("SCANHOOK_")}


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
def start(tmp_path):
    """Starts programs that end with the test."""
    started = []

    def start(command, stdout=None, **environment):
        log = open(tmp_path / f"{len(started)}.log", "wb")
        environment = {**CLEAN, **environment}
        started.append(subprocess.Popen(command, env=environment, stdout=stdout or log, stderr=log, cwd=tmp_path))
        log.close()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def serve(start, tmp_path):
    """Starts scanhook with a ready file, and gives what stands in that."""

    def serve(arguments, **environment):
        ready = tmp_path / "ready.json"
        command = [SCANHOOK, *arguments, "--ready-file", str(ready)]
        daemon = start(command, stdout=subprocess.PIPE, **environment)
        too_late = threading.Timer(PATIENCE, daemon.kill)
        too_late.start()
        # It says where it listens once the file is there; one that ends closes the pipe.
        daemon.stdout.readline()
        too_late.cancel()
        assert ready.exists(), "\n".join(log.read_text() for log in tmp_path.glob("*.log"))
        return json.loads(ready.read_text())

    return serve


def ask(about, path):
    request = urllib.request.Request(about["url"] + path, headers={"authorization": f"Bearer {about['api_key']}"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=PATIENCE) as answer:
        return json.load(answer)


def check_health(command, about):
    """Runs a health check; in the container scanhook has its usual port, here it has another."""
    assert command[0] == "scanhook", command
    environment = {**CLEAN, "SCANHOOK__CLIENT__URL": about["url"]}
    checked = subprocess.run([SCANHOOK, *command[1:]], env=environment, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout) == (0, "ready\n"), checked


def dockerfile():
    """The instructions of the last stage, by name, with the lines joined."""
    text = re.sub(r"\\\n\s*", "", (EXAMPLES / "Dockerfile").read_text())
    lines = [line.split(" ", 1) for line in text.splitlines() if line and not line.startswith("#")]
    last = max(number for number, line in enumerate(lines) if line[0] == "FROM")
    return {name: rest for name, rest in lines[last:]}


def workflow():
    return yaml.safe_load((EXAMPLES / "github-actions.yml").read_text())


def test_the_actions_are_pinned_to_commits_that_are_named():
    text = (EXAMPLES / "github-actions.yml").read_text()
    used = [step["uses"] for job in workflow()["jobs"].values() for step in job["steps"] if "uses" in step]
    assert len(used) >= 3
    for action in used:
        assert re.search(rf"uses: {re.escape(action)} # v\d+\.\d+\.\d+\n", text), action
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action


def test_no_script_of_the_workflow_has_expressions_in_it():
    for job in workflow()["jobs"].values():
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), step


def test_the_steps_of_the_workflow_run(tmp_path):
    workspace, bin, temp, environment_file = (tmp_path / name for name in ("work", "bin", "temp", "environment"))
    for folder in (workspace / "tests", bin, temp):
        folder.mkdir(parents=True)
    environment_file.touch()
    # The test's machine may have other uses for this port.
    port = str(free_port())
    shutil.copytree(EXAMPLES / "pytest", workspace / "tests/webhooks")
    init = (EXAMPLES / "init.yaml").read_text()
    assert ":9000/" in init
    (workspace / "tests/scanhook.yaml").write_text(init.replace("9000", port))
    (bin / "scanhook").symlink_to(SCANHOOK)

    definition = workflow()
    environment = {
        **CLEAN,
        **definition["env"],
        "PATH": os.pathsep.join([str(bin), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "RUNNER_TEMP": str(temp),
        "GITHUB_ENV": str(environment_file),
    }
    ran, failed = [], []
    for step in definition["jobs"]["webhooks"]["steps"]:
        name, script = step.get("name", ""), step.get("run")
        if script is None or name.startswith("Install") or (failed and "if" not in step):
            continue
        # Into a file: what goes on in the background would hold a pipe open.
        with open(temp / "step.log", "w+") as log:
            command = ["bash", "--noprofile", "--norc", "-e", "-c", script.replace(":9000", f":{port}")]
            step_environment = {
                **environment,
                **dict(line.split("=", 1) for line in environment_file.read_text().splitlines()),
            }
            done = subprocess.run(
                command, cwd=workspace, env=step_environment, stdout=log, stderr=log, timeout=5 * PATIENCE
            )
            log.seek(0)
            ran.append((name, log.read()))
        if done.returncode != 0:
            failed.append(name)
    assert not failed, "\n".join(f"== {name}\n{output}" for name, output in ran)
    assert [name for name, _ in ran] == [
        "Test with the fixture",
        "Start the consumer and scanhook",
        "Wait until the consumer has accepted the whole story",
        "Show what became of each webhook",
    ]
    assert "risk.opened" in ran[-1][1], ran[-1]


def test_the_service_of_compose_is_healthy_and_tells_its_story_where_localhost_is_mapped(serve, start, tmp_path):
    service = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())["services"]["scanhook"]
    assert service["build"] == {"context": "..", "dockerfile": "examples/Dockerfile"}
    # `${NAME:-DEFAULT}` is what Compose takes where NAME is not set.
    environment = {name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for name, value in service["environment"].items()}
    port = free_port()
    [(source, target, mode)] = [volume.split(":") for volume in service["volumes"]]
    init = tmp_path / "init.yaml"
    init.write_text((EXAMPLES / source).read_text().replace("9000", str(port)))
    assert mode == "ro"
    # What is different here: the port, the place of the init file, and the host behind localhost.
    [host] = [host.split(":")[0] for host in service["extra_hosts"]]
    arguments = " ".join(service["command"])
    for there, here in [("0.0.0.0:7226", "0.0.0.0:0"), (target, str(init)), (host, "127.0.0.1")]:
        assert there in arguments
        arguments = arguments.replace(there, here)

    start([sys.executable, str(EXAMPLES / "pytest/consumer.py"), f"127.0.0.1:{port}", "s3cret"])
    about = serve(arguments.split(), **environment)

    assert about["api_key"] == "shk_only_for_tests"
    command, *check = service["healthcheck"]["test"]
    assert command == "CMD"
    check_health(check, about)
    wait = ["wait", "--event-type", "risk.opened", "--count", "2", "--status", "succeeded", "--within", "60s"]
    client = {**CLEAN, "SCANHOOK__CLIENT__URL": about["url"], "SCANHOOK__CLIENT__API_KEY": about["api_key"]}
    waited = subprocess.run([SCANHOOK, *wait], env=client, capture_output=True, text=True)
    assert waited.returncode == 0, waited


def test_the_image_starts_with_a_key_only_and_is_healthy(serve, tmp_path):
    image = dockerfile()
    assert image["ENTRYPOINT"] == '["scanhook"]'
    environment = dict(pair.split("=", 1) for pair in image["ENV"].split())
    arguments = json.loads(image["CMD"])
    database = f"sqlite:{image['VOLUME']}/scanhook.db"
    assert database in arguments and "0.0.0.0:7226" in arguments
    here = {database: f"sqlite:{tmp_path}/scanhook.db", "0.0.0.0:7226": "0.0.0.0:0"}
    arguments = [here.get(argument, argument) for argument in arguments]

    refused = subprocess.run([SCANHOOK, *arguments], env={**CLEAN, **environment}, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "auth.default_key" in refused.stderr, refused.stderr

    about = serve(arguments, **environment, SCANHOOK__AUTH__DEFAULT_KEY="shk_only_for_tests")
    assert ask(about, "/api/v1/deliveries")["data"] == []
    check_health(json.loads(image["HEALTHCHECK"].split(" CMD ")[1]), about)
