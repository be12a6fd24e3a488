"""A Flink cluster on this machine: a JobManager, and TaskManagers, each with a pool of Python workers of its own.

    python deploy/flink/cluster.py start
    earshot run --profile demo --clips clips.csv --output out/ $(python deploy/flink/cluster.py flags)
    python deploy/flink/cluster.py stop

It is a session cluster as Flink's own scripts start one, for trying things out and for tests, on Linux: what would be a
machine each elsewhere (a TaskManager and its pool) has an address of its own here, 127.0.0.2 and so on. A cluster that
is to last is set up as Flink's documentation says.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).parents[2]))

from deploy.flink.programs import CACHE, OPENED, MissingError, programs

START_S = 120.0
_JOB_MANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
_TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
_POOL = Path(__file__).with_name("pool.py")
_IDLE_MS = 120_000  # for so long a worker waits for the job's next step
_POOL_HOST = "workers"  # each TaskManager knows another machine by this name

# Megabytes. Flink's scripts work the parts out of a process's whole; without them each has to be named.
_HEAP, _FRAMEWORK, _NETWORK, _MANAGED, _METASPACE, _OVERHEAD = 384, 128, 256, 128, 256, 192

# What a job lost with a TaskManager or its workers is done again, up to ten times. This strategy takes failures that
# come together for one; fixed-delay counts each of a step's tasks, and gives up on the first lost worker. A TaskManager
# that says nothing is lost after 10 s (Flink's own figure is 50).
_SETTINGS = {
    "jobmanager.rpc.address": "localhost",
    "jobmanager.bind-host": "localhost",
    "rest.address": "localhost",
    "rest.bind-address": "localhost",
    "taskmanager.host": "localhost",
    "taskmanager.bind-host": "localhost",
    "taskmanager.cpu.cores": 1,
    "taskmanager.memory.task.heap.size": f"{_HEAP}m",
    "taskmanager.memory.task.off-heap.size": "0m",
    "taskmanager.memory.framework.heap.size": f"{_FRAMEWORK}m",
    "taskmanager.memory.framework.off-heap.size": f"{_FRAMEWORK}m",
    "taskmanager.memory.network.min": f"{_NETWORK}m",
    "taskmanager.memory.network.max": f"{_NETWORK}m",
    "taskmanager.memory.managed.size": f"{_MANAGED}m",
    "taskmanager.memory.jvm-metaspace.size": f"{_METASPACE}m",
    "taskmanager.memory.jvm-overhead.min": f"{_OVERHEAD}m",
    "taskmanager.memory.jvm-overhead.max": f"{_OVERHEAD}m",
    # Each of a job's hundred shuffles takes so many buffers of 32 KiB at least; the figure for big ones is 512.
    "taskmanager.network.sort-shuffle.min-buffers": 16,
    "taskmanager.load-balance.mode": "SLOTS",  # a job's tasks spread over all TaskManagers
    "restart-strategy.type": "exponential-delay",
    "restart-strategy.exponential-delay.initial-backoff": "2 s",
    "restart-strategy.exponential-delay.attempts-before-reset-backoff": 10,
    # With Beam among Flink's own classes, Python workers can wait for a job's next step (`_IDLE_MS`). Else they end
    # with each, and the next step starts new ones, which load their models again.
    "classloader.resolve-order": "parent-first",
    "heartbeat.interval": 1000,
    "heartbeat.timeout": 10000,
}
_LOGGING = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = console
appender.console.name = console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %-5p %c{1} %m%n%throwable{short}
"""


class Cluster:
    """A session cluster. `start` and `stop` may be called by different processes, if `folder` is the same.

    Args:
        folder: where it keeps its settings, its logs and what it needs to know to stop.
        task_managers: how many.
        slots: how many tasks of one step each of them works on.
    """

    def __init__(self, folder: Path, task_managers: int = 2, slots: int = 1) -> None:
        self.folder, self.task_managers, self.slots = folder.absolute(), task_managers, slots
        self._state = self.folder / "cluster.json"
        self._children: list[subprocess.Popen] = []
        self._begun = json.loads(self._state.read_text()) if self._state.exists() else {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def master(self) -> str:
        """Where the JobManager answers, as ``--flink_master`` takes it."""
        return f"localhost:{self._begun['rest']}"

    @property
    def flags(self) -> list[str]:
        """What `earshot run` needs to be told."""
        return [
            "--runner=FlinkRunner",
            f"--flink_master={self.master}",
            f"--flink_job_server_jar={self._begun['job_server']}",
            f"--job_server_java_launcher={self._begun['java']}",
            "--job_server_jvm_properties=-Xmx512m",
            "--environment_type=EXTERNAL",
            f"--environment_config={_POOL_HOST}:{self._begun['pool']}",
            f"--parallelism={self._begun['parallelism']}",
            f"--environment_cache_millis={_IDLE_MS}",
        ]

    def start(self) -> None:
        """Starts every process and waits until they work together.

        Raises `MissingError` where a program cannot be had, and `RuntimeError` when the cluster does not come up.
        """
        if self.pids():
            raise RuntimeError(f"a cluster of {self.folder} is running already; stop it first")
        found = programs()
        rpc, rest, pool = _free_ports(3)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "log4j.properties").write_text(_LOGGING)
        settings = {**_SETTINGS, "jobmanager.rpc.port": rpc, "rest.port": rest}
        settings |= {"taskmanager.numberOfTaskSlots": self.slots, "io.tmp.dirs": str(self.folder / "tmp")}
        (self.folder / "config.yaml").write_text("".join(f"{key}: {value}\n" for key, value in settings.items()))
        (self.folder / "tmp").mkdir(exist_ok=True)
        self._begun = {
            "rest": rest,
            "pool": pool,
            "java": found.java,
            "flink": str(found.flink),
            "job_server": str(found.job_server),
            "parallelism": self.task_managers * self.slots,
            "pids": {},
        }
        try:
            self._java("jobmanager", _JOB_MANAGER, ["-Xmx256m"])
            for number in range(1, self.task_managers + 1):
                self.start_task_manager(number)
            self.wait(self.task_managers)
        except BaseException:
            self.stop()
            raise

    def start_task_manager(self, number: int) -> None:
        """Starts one TaskManager and its workers; it joins the others by itself."""
        address = f"127.0.0.{number + 1}"
        hosts = self.folder / f"hosts-{number}"
        hosts.write_text(f"127.0.0.1 localhost {socket.gethostname()}\n{address} {_POOL_HOST}\n")
        self._run(f"pool-{number}", [sys.executable, str(_POOL), f"{address}:{self._begun['pool']}"])
        heap, direct = _HEAP + _FRAMEWORK, _FRAMEWORK + _NETWORK
        sizes = [f"-Xmx{heap}m", f"-XX:MaxDirectMemorySize={direct}m", f"-XX:MaxMetaspaceSize={_METASPACE}m"]
        sizes.append(f"-Djdk.net.hosts.file={hosts}")
        self._java(f"taskmanager-{number}", _TASK_MANAGER, sizes)

    def kill_task_manager(self, number: int) -> None:
        """Kills a TaskManager and its workers as a machine that fails would: no time to say goodbye."""
        for name in (f"taskmanager-{number}", f"pool-{number}"):
            self._signal(name, signal.SIGKILL)

    def wait(self, task_managers: int) -> None:
        """Waits until so many TaskManagers are there. Raises `RuntimeError` when they are not."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if len(self.ask("taskmanagers").get("taskmanagers", [])) == task_managers:
                return
            if dead := [child for child in self._children if child.poll() not in (None, -signal.SIGKILL)]:
                raise RuntimeError(f"the cluster did not start: see {self.folder}/*.log; {dead[0].args} ended")
            time.sleep(0.25)
        raise RuntimeError(f"there are not {task_managers} TaskManagers after {START_S:.0f} s: see {self.folder}/*.log")

    def ask(self, what: str) -> dict[str, Any]:
        """What the JobManager's REST interface says; nothing while there is none."""
        try:
            with urllib.request.urlopen(f"http://{self.master}/{what}", timeout=10) as answer:
                return json.load(answer)
        except OSError:
            return {}

    def pids(self) -> dict[str, int]:
        """The processes that run, by name."""
        return {name: pid for name, pid in self._begun.get("pids", {}).items() if self._ours(pid)}

    def stop(self) -> None:
        """Ends every process that `start` began, and those they began."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for name in self.pids():
                self._signal(name, number)
            deadline = time.monotonic() + 10
            while self.pids() and time.monotonic() < deadline:
                time.sleep(0.1)
        # What is left of a pool that was killed is in its group.
        for pid in self._begun.get("pids", {}).values():
            _kill_group(pid, signal.SIGKILL)
        for child in self._children:
            child.wait()
        self._children = []
        self._state.unlink(missing_ok=True)
        self._begun = {}

    def _java(self, name: str, main: str, sizes: Sequence[str]) -> None:
        opened = [f"--add-opens={package}=ALL-UNNAMED" for package in OPENED]
        logging = f"-Dlog4j.configurationFile=file:{self.folder}/log4j.properties"
        beam = Path(self._begun["job_server"]).parent.glob("*.jar")
        jars = [f"{self._begun['flink']}/*", *(str(jar) for jar in sorted(beam) if not jar.name.startswith("flink-"))]
        paths = [f"-Djava.io.tmpdir={self.folder}/tmp", "-cp", os.pathsep.join(jars)]
        command = [self._begun["java"], "-XX:+UseSerialGC", *sizes, *opened, logging, *paths]
        self._run(name, [*command, main, "--configDir", str(self.folder)])

    def _run(self, name: str, command: Sequence[str]) -> None:
        # The pool starts its workers as plain `python`: that has to be this one.
        path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
        root = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PATH": path, "PYTHONPATH": root, "EARSHOT_CLUSTER": str(self.folder)}
        with (self.folder / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        self._children.append(child)
        self._begun["pids"][name] = child.pid
        self._state.write_text(json.dumps(self._begun))

    def _signal(self, name: str, number: int) -> None:
        if pid := self.pids().get(name):
            _kill_group(pid, number)

    def _ours(self, pid: int) -> bool:
        """Whether a process is still the one that was started: its number may be another's by now."""
        for child in self._children:
            if child.pid == pid and child.poll() is not None:
                return False
        try:
            return f"EARSHOT_CLUSTER={self.folder}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False


def _kill_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def main(argv: Sequence[str] | None = None) -> int:
    """Starts or stops a cluster, or prints what `earshot run` needs to be told of it."""
    parser = argparse.ArgumentParser(description="A Flink cluster on this machine.")
    parser.add_argument("what", choices=("start", "stop", "flags"))
    parser.add_argument("--folder", type=Path, default=CACHE / "cluster", help="default: %(default)s")
    parser.add_argument("--task-managers", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--slots", type=int, default=1, help="of each TaskManager; default: %(default)s")
    options = parser.parse_args(argv)
    cluster = Cluster(options.folder, options.task_managers, options.slots)
    try:
        if options.what == "start":
            cluster.start()
            print(f"JobManager: http://{cluster.master}; logs: {cluster.folder}/*.log")
        elif options.what == "stop":
            cluster.stop()
        elif not cluster.pids():
            raise RuntimeError(f"no cluster of {cluster.folder} is running")
        else:
            print(" ".join(cluster.flags))
    except (MissingError, RuntimeError) as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
