"""The Elasticsearch distribution with the analyzer plugin in it, prepared once and kept in the cache.

The distribution is Elastic's own artifact for integration tests: the real server without the
analysis modules. `analysis-plugin/` adds the same Lucene analyzers under the same names.
"""

import fcntl
import hashlib
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import environment
from tests.servers.artifacts import Artifact, ArtifactCache
from tests.servers.errors import ServerUnavailableError

ELASTICSEARCH_VERSION = "9.5.3"
DISTRIBUTION = Artifact(
    "org.elasticsearch.distribution.integ-test-zip",
    "elasticsearch",
    ELASTICSEARCH_VERSION,
    "zip",
    "bec49f3b8d00e75c8d1cec85c35298635ec9fbd3ae80ef5aeb6bc05abdb3db2d",
)
# The server has Lucene 10.5.1, for which these two were never published.
LIBRARIES = (
    Artifact(
        "org.apache.lucene",
        "lucene-analysis-kuromoji",
        "10.5.0",
        "jar",
        "1a6f68328268df5d6854921121327edad2227a6b6b78fc40abe54c29c3a5b28c",
    ),
    Artifact(
        "org.apache.lucene",
        "lucene-analysis-nori",
        "10.5.0",
        "jar",
        "01c3052bd62f7bfaece34aef36af527951fa30e3010c79fd6f61a813ed0277b9",
    ),
)
PLUGIN = Path(__file__).parent / "analysis-plugin"
_NEEDED_JARS = (
    "elasticsearch-plugin-api-*.jar",
    "elasticsearch-plugin-analysis-api-*.jar",
    "lucene-core-*.jar",
    "lucene-analysis-common-*.jar",
)


def prepared_home(cache: Path, jdk: Path) -> Path:
    """The home of a ready distribution; nodes only read it, so many may run from it at once.

    It appears under its final name in one step, and its name has a digest of everything it is made
    from: what is found there is complete and current.

    Raises:
        ChecksumError: a downloaded file is not the pinned one.
        ServerUnavailableError: a download, the plugin's build or its installation failed.
    """
    home = cache / f"elasticsearch-{ELASTICSEARCH_VERSION}-{_digest()}"
    if home.is_dir():
        return home
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServerUnavailableError(
            f"cannot make the cache {cache} ({error}); choose another with {environment.CACHE_VARIABLE}"
        ) from error
    with _locked(cache / "lock"):
        if not home.is_dir():  # another run may have prepared it while this one waited
            _prepare(home, ArtifactCache(cache / "artifacts"), jdk)
    return home


def _digest() -> str:
    digest = hashlib.sha256()
    for artifact in (DISTRIBUTION, *LIBRARIES):
        digest.update(artifact.sha256.encode())
    for file in _plugin_files():
        digest.update(file.relative_to(PLUGIN).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def _plugin_files() -> list[Path]:
    return sorted(file for file in PLUGIN.rglob("*") if file.is_file())


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file closes
        yield


def _prepare(home: Path, artifacts: ArtifactCache, jdk: Path) -> None:
    distribution = artifacts.fetch(DISTRIBUTION)
    libraries = [artifacts.fetch(library) for library in LIBRARIES]
    with tempfile.TemporaryDirectory(prefix="preparing-", dir=home.parent) as directory:
        work = Path(directory)
        _unpack(distribution, work)
        unpacked = work / f"elasticsearch-{ELASTICSEARCH_VERSION}"
        plugin = _build_plugin(unpacked, libraries, jdk, work)
        _run(
            [str(unpacked / "bin" / "elasticsearch-plugin"), "install", "--batch", plugin.as_uri()],
            "install the analyzer plugin",
            jdk,
        )
        unpacked.rename(home)


def _unpack(archive: Path, target: Path) -> None:
    """Unpack with the modes of the archive, which `zipfile` alone would drop."""
    with zipfile.ZipFile(archive) as packed:
        for entry in packed.infolist():
            path = Path(packed.extract(entry, target))
            path.chmod(entry.external_attr >> 16 & 0o777)


def _build_plugin(home: Path, libraries: list[Path], jdk: Path, work: Path) -> Path:
    classes = work / "classes"
    jars = [next((home / "lib").glob(pattern)) for pattern in _NEEDED_JARS]
    sources = [str(file) for file in _plugin_files() if file.suffix == ".java"]
    class_path = ":".join(str(jar) for jar in (*jars, *libraries))
    compiler = [str(jdk / "bin" / "javac"), "--release", "21", "-Xlint:all", "-Werror"]
    compiler += ["-proc:none", "-encoding", "UTF-8", "-cp", class_path, "-d", str(classes)]
    _run([*compiler, *sources], "compile the analyzer plugin", jdk)
    jar = work / "citewell-analysis.jar"
    compiled = sorted(classes.rglob("*.class"))
    _zip(jar, {file.relative_to(classes).as_posix(): file for file in compiled})
    described = [file for file in _plugin_files() if file.suffix in (".json", ".properties")]
    plugin = work / "citewell-analysis.zip"
    _zip(plugin, {file.name: file for file in (jar, *libraries, *described)})
    return plugin


def _zip(archive: Path, members: dict[str, Path]) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, file in members.items():
            packed.write(file, name)


def _run(command: list[str], purpose: str, jdk: Path) -> None:
    variables = environment.child_environment(ES_JAVA_HOME=str(jdk))
    done = subprocess.run(command, env=variables, capture_output=True, check=False, text=True, timeout=300)
    if done.returncode != 0:
        raise ServerUnavailableError(
            f"could not {purpose} with the JDK at {jdk} (exit status {done.returncode}); "
            f"see its output below\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
