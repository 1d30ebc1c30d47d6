"""Servers that clients are run against: oxkeeper's own binary, or Apache ZooKeeper.

Both get the same zoo.cfg, a free port and a folder of their own, which goes when they go.
Entry types: `Server`, and `Control` for a client that stops and starts its server.
"""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import xml.etree.ElementTree as ElementTree

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
ORACLE_POM = REPOSITORY / "compat-tests/oracle/pom.xml"

KINDS = ("oxkeeper", "zookeeper")
START_SECONDS_MAX = 120
STOP_SECONDS_MAX = 60
FETCH_SECONDS_MAX = 900
POLL_SECONDS = 0.05
# A port that was free may be taken by the time the server binds it.
PORT_ATTEMPTS = 5
LOG_TAIL_CHARACTERS = 4_000

# What a client's own tests expect of the server that they start. The super user's password is `test`.
CONFIGURATION = {
    "tickTime": "2000",
    "maxClientCnxns": "0",
    "4lw.commands.whitelist": "*",
    "admin.enableServer": "false",
    "extendedTypesEnabled": "true",
    "DigestAuthenticationProvider.superDigest": "super:D/InIHSb7yEEbrWz8b9l71RjZJU=",
    # Containers and TTL nodes are to vanish while a test looks.
    "znode.container.checkIntervalMs": "1000",
}


class ServerError(Exception):
    """The server could not be fetched, started or stopped."""


def cache_folder():
    """The user's cache folder of this project; outlives every run."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(home) / "oxkeeper"


def oxkeeper_binary():
    """OXKEEPER_BIN, else the release binary in cargo's target folder."""
    named = os.environ.get("OXKEEPER_BIN")
    target = os.environ.get("CARGO_TARGET_DIR") or cache_folder() / "target"
    binary = pathlib.Path(named or pathlib.Path(target) / "release/oxkeeper")
    if not binary.is_file():
        raise ServerError(f"{binary} is no file: build it (make build), or set OXKEEPER_BIN")
    return binary.resolve()


def zookeeper_version():
    """Version of Apache ZooKeeper that everything here is compared with."""
    namespace = {"m": "http://maven.apache.org/POM/4.0.0"}
    pom = ElementTree.parse(ORACLE_POM)
    return pom.findtext("m:properties/m:oracle.version", namespaces=namespace)


def zookeeper_jars():
    """Folder of Apache ZooKeeper's jars; Maven fetches them on the first call."""
    wanted = cache_folder() / "oracle" / zookeeper_version()
    if wanted.is_dir():
        return wanted
    wanted.parent.mkdir(parents=True, exist_ok=True)
    # Fetched beside its place and moved when complete: two runs may race.
    with tempfile.TemporaryDirectory(dir=wanted.parent) as scratch:
        pom = shutil.copy(ORACLE_POM, scratch)
        jars = pathlib.Path(scratch) / "lib"
        subprocess.run(
            ["mvn", "-B", "-q", "-f", pom, "dependency:copy-dependencies"]
            + ["-DincludeScope=runtime", f"-DoutputDirectory={jars}"],
            check=True,
            timeout=FETCH_SECONDS_MAX,
        )
        try:
            jars.rename(wanted)
        except OSError:
            if not wanted.is_dir():
                raise
    return wanted


def oxkeeper_version():
    """What the binary under test says of itself."""
    answer = subprocess.run(
        [oxkeeper_binary(), "--version"], capture_output=True, text=True, check=True, timeout=30
    )
    return answer.stdout.split()[-1]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def four_letter_word(address, word, timeout_seconds=2.0):
    """The answer, or None when there is no server (yet)."""
    host, port = address.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout_seconds) as connection:
            connection.settimeout(timeout_seconds)
            connection.sendall(word.encode())
            answer = b""
            while part := connection.recv(65536):
                answer += part
            return answer.decode()
    except OSError:
        return None


class Server:
    """A server process. `with Server(kind) as server:` starts it and cleans up."""

    def __init__(self, kind, configuration=None, jvm_flags=(), port=None):
        if kind not in KINDS:
            raise ServerError(f"{kind} is none of {', '.join(KINDS)}")
        self.kind = kind
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="oxkeeper-clients-"))
        self.configuration = {**CONFIGURATION, **(configuration or {})}
        # What only ZooKeeper understands.
        self.jvm_flags = list(jvm_flags)
        self.wanted_port = port
        self.port = 0
        self.process = None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def __enter__(self):
        try:
            self._start_on_a_free_port()
        except BaseException:
            self.destroy()
            raise
        return self

    def __exit__(self, *_):
        self.destroy()

    def _start_on_a_free_port(self):
        for attempt in range(1, PORT_ATTEMPTS + 1):
            self.port = self.wanted_port or free_port()
            try:
                self.start()
                return
            except ServerError:
                self.kill()
                if attempt == PORT_ATTEMPTS:
                    raise

    def start(self):
        """Starts the process on its port and data, and waits until it serves."""
        if self.process is not None:
            return
        # An aborted run must leave no server behind.
        command = ["setpriv", "--pdeathsig", "KILL", "--", *self._command()]
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )
        self._wait_until_serving()

    def _command(self):
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        config = self.folder / "zoo.cfg"
        entries = {
            "clientPort": self.port,
            "clientPortAddress": "127.0.0.1",
            "dataDir": data,
            **self.configuration,
        }
        config.write_text("".join(f"{key}={value}\n" for key, value in entries.items()))
        if self.kind == "oxkeeper":
            return [oxkeeper_binary(), "standalone", "--config", config, "--http-port", "0"]
        # One small machine runs several: start quickly, stay small. ZooKeeper decodes digests with
        # the JVM's default character set; clients send UTF-8.
        java = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        java += ["-Dfile.encoding=UTF-8", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        for key in ("znode.container.checkIntervalMs", "jute.maxbuffer"):
            if key in self.configuration:
                java.append(f"-D{key}={self.configuration[key]}")
        java += self.jvm_flags
        java += ["-cp", f"{zookeeper_jars()}/*"]
        return [*java, "org.apache.zookeeper.server.quorum.QuorumPeerMain", config]

    def _wait_until_serving(self):
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ServerError(f"{self.kind} ended:\n{self.log_tail()}")
            # Not `ruok`: a ZooKeeper that still loads its data answers that already.
            if "Mode:" in (four_letter_word(self.address, "srvr") or ""):
                return
            time.sleep(POLL_SECONDS)
        raise ServerError(f"{self.kind} does not serve:\n{self.log_tail()}")

    def stop(self):
        """Ends the process with SIGTERM; its data stays."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise ServerError(f"{self.kind} did not end on SIGTERM") from error
        self.process = None

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def destroy(self):
        """Ends the process and removes its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log_tail(self):
        log = self.folder / "server.log"
        return log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:] if log.exists() else ""


class Control:
    """Lets another process stop and start the server: a Unix socket that takes one word, `stop`,
    `kill` or `start`, and answers `ok` when that has happened, else what went wrong.

    `serve_once` must be called from the thread that started the server: the kernel ends a server
    when the thread that started it ends.
    """

    def __init__(self, server):
        self.server = server
        self.path = server.folder / "control"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen(16)

    def serve_once(self, wait_seconds):
        """Answers at most one request."""
        self.listener.settimeout(wait_seconds)
        try:
            connection, _ = self.listener.accept()
        except TimeoutError:
            return
        with connection:
            connection.settimeout(STOP_SECONDS_MAX)
            word = connection.recv(16).decode().strip()
            connection.sendall(self._do(word).encode())

    def _do(self, word):
        try:
            if word == "stop":
                self.server.stop()
            elif word == "kill":
                self.server.kill()
            elif word == "start":
                self.server.start()
            else:
                return f"{word!r} is none of stop, kill, start"
            return "ok"
        except (ServerError, OSError) as error:
            return str(error)


def ask_control(path, word):
    """The other side of `Control`."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(START_SECONDS_MAX + STOP_SECONDS_MAX)
        connection.connect(str(path))
        connection.sendall(f"{word}\n".encode())
        answer = connection.recv(65536).decode()
    if answer != "ok":
        raise ServerError(answer or "the control closed without an answer")


def crash_and_restart():
    """Ends the server that `with-server` runs with SIGKILL, and starts it on the same port and data."""
    control = os.environ.get("SERVER_CONTROL")
    if control is None:
        raise ServerError("SERVER_CONTROL is not set: run this by with-server")
    for word in ("kill", "start"):
        ask_control(control, word)
