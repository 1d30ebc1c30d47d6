"""A virtual environment per list of pinned packages, in the user's cache folder."""

import fcntl
import hashlib
import pathlib
import subprocess
import sys

from lib.servers import cache_folder

INSTALL_SECONDS_MAX = 600


def virtual_environment(name, requirements):
    """Path of the environment's python; installed on the first call for these requirements."""
    version = "{}.{}".format(*sys.version_info)
    key = hashlib.sha256(pathlib.Path(requirements).read_bytes()).hexdigest()[:12]
    folder = cache_folder() / "clients" / f"{name}-{key}-py{version}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    complete = folder / "complete"
    python = folder / "bin/python"
    # Two runs at once install once.
    with open(folder.with_suffix(".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            _run([sys.executable, "-m", "venv", "--clear", folder])
            pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            _run([*pip, "--requirement", requirements])
            complete.touch()
    return python


def _run(command):
    subprocess.run(command, check=True, timeout=INSTALL_SECONDS_MAX)
