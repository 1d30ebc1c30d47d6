#!/usr/bin/env python3
"""Compares oxkeeper with Apache ZooKeeper on this machine and writes the table of docs/benchmarks.md.

Both servers run side by side on the same disk, each loaded in turn by the same generator
(`oxkeeper perf`, which checks every reply); an idle server takes no CPU. Rounds are interleaved, and
each ratio is the median of the ratios of the rounds. The first round warms up the JVM and is dropped.

    docs/benchmarks.py --binary PATH [--rounds 3] [--seconds 5] [--only NAME] [--znodes 1000000] [--write FILE]
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
POM = ROOT / "compat-tests/oracle/pom.xml"
MAIN_CLASS = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
HEAP = "-Xmx2g"
START_TIMEOUT_S = 120
LOAD_TIMEOUT_S = 900

# Name, arguments of the generator, what is compared, the aim as text.
CASES = [
    ("get 10 × 16", "-w get -c 10 -p 16", "rate", "≥ 4×"),
    ("get 1 × 1", "-w get -c 1 -p 1", "p50", "p50 ≤ half"),
    ("get 100 × 1", "-w get -c 100 -p 1", "rate", "≥ 1.3×"),
    ("set 10 × 16", "-w set -c 10 -p 16", "rate", "≥ 3×"),
    ("set 1 × 1", "-w set -c 1 -p 1", "rate", "≥ 1.5×"),
    ("set 100 × 1", "-w set -c 100 -p 1", "rate", "≥ 1×"),
    ("create 10 × 16", "-w create -c 10 -p 16", "rate", "≥ 3×"),
    ("multi of 10, 10 × 16", "-w multi -c 10 -p 16", "rate", "≥ 3×"),
    ("90 % reads, 10 × 16", "-w mixed -c 10 -p 16", "rate", "≥ 3×"),
    ("watch fan-out to 100", "-w watch -c 100", "rate", "≥ 5×"),
    ("session open + close", "-w session -c 10", "rate", "≥ 2×"),
]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port, word):
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.sendall(word)
        reply = b""
        while chunk := connection.recv(4096):
            reply += chunk
        return reply


class Server:
    """A server process with its own folder and port; `command` makes its command line."""

    def __init__(self, name, folder, command):
        self.name = name
        self.folder = folder / name
        self.folder.mkdir()
        self.port = free_port()
        self.words = command(self.folder, self.port)
        self.process = None

    def start(self):
        """Returns the seconds until it serves."""
        began = time.monotonic()
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(self.words, cwd=self.folder, stdout=log, stderr=log)
        while time.monotonic() - began < START_TIMEOUT_S:
            if self.process.poll() is not None:
                sys.exit(f"{self.name} ended:\n{(self.folder / 'log').read_text()[-2000:]}")
            try:
                if b"Mode: standalone" in ask(self.port, b"srvr"):
                    return time.monotonic() - began
            except OSError:
                pass
            time.sleep(0.01)
        sys.exit(f"{self.name} does not serve")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def memory_mib(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return float("nan")

    def data_bytes(self):
        """Blocks in use, without log files that wait to be used again."""
        files = (p for p in self.folder.rglob("*") if p.is_file() and p.suffix != ".spare")
        return sum(p.stat().st_blocks * 512 for p in files)


def zookeeper(jars):
    def command(folder, port):
        config = folder / "zoo.cfg"
        config.write_text(
            f"tickTime=2000\ndataDir={folder}/data\nclientPort={port}\nclientPortAddress=127.0.0.1\n"
            "maxClientCnxns=0\nadmin.enableServer=false\nforceSync=yes\n"
        )
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        return ["java", HEAP, "-XX:+UseG1GC", quiet, "-cp", f"{jars}/*", MAIN_CLASS, str(config)]

    return command


def oxkeeper(binary):
    def command(folder, port):
        return [
            binary, "standalone", "--data-dir", str(folder / "data"), "--client-address", "127.0.0.1",
            "--client-port", str(port), "--http-enabled", "false", "--max-client-connections", "0",
        ]  # fmt: skip

    return command


def zookeeper_jars():
    """Fetches Apache ZooKeeper once, to where the tests keep it too."""
    version = POM.read_text().split("<oracle.version>")[1].split("<")[0]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    jars = cache / "oxkeeper/oracle" / version
    if not jars.is_dir():
        jars.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=jars.parent) as scratch:
            pom = shutil.copy(POM, scratch)
            fetch = ["mvn", "-B", "-q", "dependency:copy-dependencies", "-DincludeScope=runtime"]
            subprocess.run([*fetch, f"-DoutputDirectory={scratch}/lib", "-f", pom], check=True)
            os.rename(f"{scratch}/lib", jars)
    return jars, version


def load(binary, server, words):
    """One run of the generator; a wrong reply ends everything."""
    command = [binary, "perf", "--servers", f"127.0.0.1:{server.port}", "--json", "-q", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LOAD_TIMEOUT_S)
    if done.returncode != 0:
        sys.exit(f"{server.name}: {' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def throughput(args, servers):
    """One row per case: (case, reports per server)."""
    for case in CASES:
        if args.only and args.only not in case[0]:
            continue
        reports = {server.name: [] for server in servers}
        for round_ in range(args.rounds + 1):
            for server in servers:
                words = [*case[1].split(), "-d", str(args.seconds), "--value-bytes", "100"]
                report = load(args.binary, server, words)
                if round_ > 0:
                    reports[server.name].append(report)
        yield case, reports


def rate_text(value):
    return f"{value / 1000:.1f}k/s" if value >= 1000 else f"{value:.0f}/s"


def throughput_row(case, reports):
    name, _, measure, aim = case
    pairs = list(zip(reports["zookeeper"], reports["oxkeeper"], strict=True))
    if measure == "p50":
        ratio = statistics.median(o["latency"]["p50_us"] / z["latency"]["p50_us"] for z, o in pairs)
        verdict = f"p50 {ratio:.2f}×"
    else:
        ratio = statistics.median(o["operations_per_s"] / z["operations_per_s"] for z, o in pairs)
        verdict = f"{ratio:.1f}×"
    cells = [name, aim, f"**{verdict}**"]
    for server in ("zookeeper", "oxkeeper"):
        middle = statistics.median(r["operations_per_s"] for r in reports[server])
        latency = [statistics.median(r["latency"][q] for r in reports[server]) / 1000 for q in ("p50_us", "p99_us")]
        gap = statistics.median(r["longest_gap_ms"] for r in reports[server])
        cells.append(f"{rate_text(middle)}, {latency[0]:.3f} / {latency[1]:.2f} ms, {gap:.0f} ms")
    return "| " + " | ".join(cells) + " |"


def footprint_rows(args, servers):
    """Memory, disk and restart with many znodes."""
    found = {}
    for server in servers:
        server.start()
        load(args.binary, server, ["-w", "populate", "--znodes", str(args.znodes), "--value-bytes", "100", "--keep"])
        loaded = server.memory_mib()
        server.stop()
        restart = server.start()
        found[server.name] = (loaded, server.memory_mib(), restart, server.data_bytes() / args.znodes)
        server.stop()
    z, o = found["zookeeper"], found["oxkeeper"]
    count = f"{args.znodes:,}"
    yield f"| memory after creating {count} znodes | ≤ 1/8, ≤ 200 MiB | **1/{z[0] / o[0]:.1f}** | {z[0]:.0f} MiB | {o[0]:.0f} MiB |"
    yield f"| memory after a restart with them | | **1/{z[1] / o[1]:.1f}** | {z[1]:.0f} MiB | {o[1]:.0f} MiB |"
    yield f"| restart with {count} znodes | ≤ 0.5 s | **{o[2]:.2f} s** | {z[2]:.2f} s | {o[2]:.2f} s |"
    yield f"| disk per znode of 100 B | ≤ 0.5 KB | **{o[3] / 1000:.2f} KB** | {z[3] / 1000:.2f} KB | {o[3] / 1000:.2f} KB |"


def machine():
    info = Path("/proc/cpuinfo").read_text()
    model = info.split("model name")[1].split("\n")[0].strip("\t: ") if "model name" in info else "unknown CPU"
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, Linux {os.uname().release}"


def measure(args):
    """All rows, printed as they come."""
    jars, version = zookeeper_jars()
    makers = {"zookeeper": zookeeper(jars), "oxkeeper": oxkeeper(args.binary)}
    rows = [
        f"{time.strftime('%Y-%m-%d')}, {machine()}. Apache ZooKeeper {version}, {HEAP}, forceSync on. "
        f"{args.rounds} rounds of {args.seconds} s.",
        "",
        "| case | aim | result | Apache ZooKeeper: ops/s, p50 / p99, longest gap | oxkeeper: the same |",
        "|---|---|---|---|---|",
    ]
    print("\n".join(rows), flush=True)

    def add(row):
        rows.append(row)
        print(row, flush=True)

    args.data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.data) as folder:
        run_phases(args, Path(folder), makers, add)
    return rows


def run_phases(args, folder, makers, add):
    for phase in ("throughput", "footprint"):
        (folder / phase).mkdir()
        servers = [Server(name, folder / phase, maker) for name, maker in makers.items()]
        try:
            if phase == "throughput":
                for server in servers:
                    server.start()
                for case, reports in throughput(args, servers):
                    add(throughput_row(case, reports))
            elif args.znodes > 0 and not args.only:
                for row in footprint_rows(args, servers):
                    add(row)
        finally:
            for server in servers:
                server.stop()


def write(path, rows):
    """Replaces what is between the marks."""
    begin, end = "<!-- begin of results -->\n", "<!-- end of results -->"
    text = path.read_text()
    before, rest = text.split(begin)
    _, after = rest.split(end)
    path.write_text(before + begin + "\n" + "\n".join(rows) + "\n\n" + end + after)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, help="the oxkeeper binary")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--znodes", type=int, default=1_000_000, help="for memory, disk and restart; 0 leaves them out")
    parser.add_argument("--only", help="only cases whose name contains this")
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()), help="where both keep their data")
    parser.add_argument("--write", type=Path, help="put the table into this page")
    args = parser.parse_args()
    args.binary = str(Path(args.binary).resolve())
    rows = measure(args)
    if args.write:
        write(args.write, rows)


if __name__ == "__main__":
    main()
