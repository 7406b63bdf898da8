"""The server's programs, its data folder and its socket: where they lie, how they are made, how the server is started.

A folder may be closed to the user that the server runs as, root's home for example. Then data, socket and a copy of the
programs lie in `OUTSIDE`, and `data/` in the folder is a link. Only the supervisor uses this module.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path

from dbkit.database.embedded.files import (
    OUTSIDE,
    as_server,
    exclusive_outside,
    give_to_server,
    make_private,
    reachable,
    server_ids,
)
from dbkit.database.embedded.log import failure, log_bytes
from dbkit.database.embedded.postmaster import DATABASE, ROLE
from dbkit.database.embedded.programs import PACKAGE, PROGRAMS, find_site
from dbkit.errors import DbkitError

TEMPORARY_SOCKET = "dbkit-socket-"
"""How the name of a socket's folder begins where it lies in a folder for temporary files."""

_SOCKET_PATH_BYTES = 103  # macOS; Linux allows 107

# PostgreSQL's defaults, durability included, so that what is measured is a server as people run it. But:
_SETTINGS = {
    "listen_addresses": "",  # no TCP
    "unix_socket_permissions": "0700",
    "log_checkpoints": "off",  # two lines every five minutes that nobody reads
}


def start_server(folder: Path, settings: Mapping[str, str], lock: int) -> subprocess.Popen[bytes]:
    """Start the server of a folder, and make its cluster if missing. `lock` is the supervisor's: see `_make_cluster`.

    Raises DbkitError where that is not possible.
    """
    programs = _find_programs()
    data = folder / "data"
    if data.is_symlink() and data.readlink() != _home_outside(folder) / "data":
        data.unlink()  # this folder is a copy, and the data are the original's
    home = folder if reachable(folder) else _home_outside(folder)
    if not data.exists():
        _make_cluster(folder, home, programs, lock)
    if data.stat().st_uid != server_ids()[0]:
        raise DbkitError(f"{data} belongs to another user: run as that user, delete it, or give --database-url")
    version, own_version = (data / "PG_VERSION").read_text().strip(), metadata.version(PACKAGE).split(".")[0]
    if version != own_version:
        raise DbkitError(
            f"{data} was made by PostgreSQL {version}, this is {own_version}: delete it, or give --database-url"
        )
    (data / "postmaster.pid").unlink(missing_ok=True)  # it names no server of this folder
    given = {**_SETTINGS, "unix_socket_directories": str(_make_socket_folder(home)), **settings}
    options = [f"--{name}={value}" for name, value in given.items()]
    return subprocess.Popen([programs / "postgres", "-D", data.resolve(), *options], **as_server())


def _make_cluster(folder: Path, home: Path, programs: Path, lock: int) -> None:
    """Make the cluster beside its place and rename it, so that an unfinished one is never used.

    The programs inherit `lock`: if this supervisor is killed, the next one waits until they have ended.
    """

    def run(program: str, *arguments: str | Path, statement: str = "") -> None:
        log_start = log_bytes()
        command = [programs / program, *arguments]
        done = subprocess.run(command, input=statement.encode(), pass_fds=[lock], check=False, **as_server())
        if done.returncode != 0:
            raise failure("cannot be made", folder, log_start)

    new = home / "data.new"
    with nullcontext() if home == folder else exclusive_outside():
        if home != folder:
            _delete(home)
            _delete_homes_of_deleted_folders()
            make_private(home)
            (home / "folder").symlink_to(folder)
        _delete(new)
        make_private(new)
        locale = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        run("initdb", "-D", new, "-U", ROLE, "-A", "trust", *locale, "--no-sync", "--no-instructions")
        (new / "pg_hba.conf").write_text("local all all trust\n")  # the socket's folder keeps other users out
        single_user = ["--single", "-j", "--exit_on_error=on", "--fsync=off"]
        run("postgres", *single_user, "-D", new, "postgres", statement=f"CREATE DATABASE {DATABASE};\n\n")
        run("initdb", "-D", new, "--sync-only")  # all at once, in place of --no-sync and --fsync=off
        new.rename(home / "data")
        if home != folder:
            (folder / "data").unlink(missing_ok=True)
            (folder / "data").symlink_to(home / "data")


def _make_socket_folder(home: Path) -> Path:
    def fits(folder: Path) -> bool:
        path = os.fsencode(folder / ".s.PGSQL.65535")
        return len(path) <= _SOCKET_PATH_BYTES and b"," not in path  # a comma separates hosts in a URL

    if fits(home / "socket"):
        _delete(home / "socket")  # with what a crash left in it
        make_private(home / "socket")
        return home / "socket"
    for parent in map(Path, filter(None, [os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"])):
        name_fits = fits(parent / f"{TEMPORARY_SOCKET}12345678")
        if name_fits and os.access(parent, os.W_OK | os.X_OK) and reachable(parent):
            socket = Path(tempfile.mkdtemp(prefix=TEMPORARY_SOCKET, dir=parent))
            give_to_server(socket)
            return socket
    raise DbkitError(f"no place for PostgreSQL's socket: {home} and $TMPDIR are too long for one, set a shorter TMPDIR")


def _find_programs() -> Path:
    """The folder of PostgreSQL's programs, or of a copy where the server's user cannot reach them."""
    site = find_site()
    if not reachable(site / PROGRAMS / "postgres"):
        copy = OUTSIDE / f"{PACKAGE}-{metadata.version(PACKAGE)}"
        with exclusive_outside():
            if not copy.exists():
                new = OUTSIDE / "binaries.new"
                _delete(new)
                make_private(new)
                for part in (PACKAGE, f"{PACKAGE}.libs"):  # Linux wheels have libraries beside the package
                    if (site / part).exists():
                        shutil.copytree(site / part, new / part, symlinks=True)
                for path in new.rglob("*"):
                    give_to_server(path)
                new.rename(copy)
        site = copy
    return site / PROGRAMS


def _home_outside(folder: Path) -> Path:
    return OUTSIDE / hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]


def _delete_homes_of_deleted_folders() -> None:
    for home in OUTSIDE.iterdir():
        if (home / "folder").is_symlink() and not (home / "folder" / "data").exists():
            _delete(home)


def _delete(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
