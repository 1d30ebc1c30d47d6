"""Jars that a pom.xml names, in the user's cache folder."""

import fcntl
import hashlib
import pathlib
import subprocess

from lib.results import need_tool
from lib.servers import FETCH_SECONDS_MAX, cache_folder


def jars(pom, name):
    """Folder of the jars; Maven fetches them on the first call for this pom."""
    key = hashlib.sha256(pathlib.Path(pom).read_bytes()).hexdigest()[:12]
    folder = cache_folder() / f"clients/{name}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    complete = folder / "complete"
    # Two runs at once fetch once.
    with open(folder / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            command = [need_tool("mvn", "maven"), "-B", "-q", "-f", pom]
            command += ["dependency:copy-dependencies", "-DincludeScope=runtime"]
            command += [f"-DoutputDirectory={folder / 'lib'}"]
            subprocess.run(command, check=True, timeout=FETCH_SECONDS_MAX)
            complete.touch()
    return folder / "lib"
