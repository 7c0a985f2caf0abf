"""Files from Maven Central, kept in a cache and never used unless their digest is the pinned one."""

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.servers.errors import ChecksumError, ServerUnavailableError

_DOWNLOAD_SECONDS = 900


@dataclass(frozen=True)
class Artifact:
    """One file of a Maven repository, and the SHA-256 digest it must have."""

    group: str
    name: str
    version: str
    packaging: str
    sha256: str

    @property
    def filename(self) -> str:
        return f"{self.name}-{self.version}.{self.packaging}"

    @property
    def coordinates(self) -> str:
        """As Maven writes them: group:name:version:packaging."""
        return f"{self.group}:{self.name}:{self.version}:{self.packaging}"


Download = Callable[[Artifact, Path], None]


class ArtifactCache:
    """A directory of verified artifacts.

    Args:
        directory: made on the first fetch.
        download: puts an artifact into a directory under its `filename`; Maven by default.
    """

    def __init__(self, directory: Path, download: Download | None = None) -> None:
        self.directory = directory
        self._download = download or download_artifact

    def fetch(self, artifact: Artifact) -> Path:
        """The file, downloaded only when the cache lacks it.

        Raises:
            ChecksumError: the cached or the downloaded file is not the pinned one.
            ServerUnavailableError: it could not be downloaded.
        """
        cached = self.directory / artifact.filename
        if cached.exists():
            verify(artifact, cached, "delete it, and the next run downloads it again")
            return cached
        self.directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="download-", dir=self.directory) as incoming:
            self._download(artifact, Path(incoming))
            arrived = Path(incoming) / artifact.filename
            verify(
                artifact,
                arrived,
                "the repository, or the local Maven repository, served another file: "
                "remove that copy there and run again",
            )
            arrived.rename(cached)
        return cached


def verify(artifact: Artifact, file: Path, remedy: str) -> None:
    """Raise ChecksumError, with the remedy, unless the file has the artifact's digest."""
    with file.open("rb") as stream:
        actual = hashlib.file_digest(stream, "sha256").hexdigest()
    if actual != artifact.sha256:
        raise ChecksumError(
            f"{file} is not {artifact.coordinates}: its SHA-256 is {actual}, expected {artifact.sha256}; {remedy}"
        )


def download_artifact(artifact: Artifact, directory: Path) -> None:
    """Download with Maven, which knows the user's mirrors and certificates.

    Raises:
        ServerUnavailableError: Maven is absent, or did not give the file.
    """
    maven = shutil.which("mvn")
    if maven is None:
        raise ServerUnavailableError(
            f"{artifact.coordinates} is not in the cache and Maven is not on the PATH; install Maven (Debian: maven)"
        )
    _download_with_maven(maven, artifact, directory)


def _download_with_maven(maven: str, artifact: Artifact, directory: Path) -> None:
    command = [
        maven,
        "-q",
        "-B",
        "dependency:copy",
        f"-Dartifact={artifact.coordinates}",
        f"-DoutputDirectory={directory}",
        "-Dmdep.overWriteReleases=true",
    ]
    try:  # started in the target, so that no pom.xml of the checkout takes part
        done = subprocess.run(
            command,
            cwd=directory,
            capture_output=True,
            check=False,
            text=True,
            timeout=_DOWNLOAD_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise ServerUnavailableError(
            f"Maven did not download {artifact.coordinates} within {_DOWNLOAD_SECONDS} s; "
            "try again, or check Maven's settings"
        ) from error
    if done.returncode != 0 or not (directory / artifact.filename).exists():
        raise ServerUnavailableError(
            f"Maven could not download {artifact.coordinates}; check the network and Maven's "
            f"settings\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
