"""Processes of the stack: started once, known by process id and start time, stopped alone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from machine import StackError

BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Service:
    """One row of the stack's table."""

    name: str
    ports: tuple[int, ...]
    command: Sequence[str]
    healthy: Callable[[], bool]
    env: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_with: signal.Signals = signal.SIGTERM
    # Two starts with different variants are different services: the second replaces the first.
    variant: str = ""
    seconds_to_start: float = 180


@dataclass(frozen=True)
class Running:
    """A process as noted when it was started. A number alone may belong to a stranger by now."""

    pid: int
    started: str
    boot: str
    ports: tuple[int, ...]
    stop_with: int
    variant: str

    @property
    def alive(self) -> bool:
        return self.boot == BOOT.read_text() and _start_time(self.pid) == self.started


class Supervisor:
    """Starts and stops services; notes what it started in `folder`; what they say is in `logs`."""

    def __init__(self, folder: Path, logs: Path) -> None:
        self.folder = folder
        self.logs = logs

    def start(self, service: Service) -> str:
        """Start the service and wait until it is healthy; nothing to do when it is both already."""
        ports = ", ".join(str(port) for port in service.ports)
        where = f", port {ports}" if ports else ""
        running = self.running(service.name)
        if running:
            same = (running.variant, running.ports) == (service.variant, service.ports)
            # A busy service may answer late: others may be using it right now.
            if same and _within(30, service.healthy):
                return f"runs already{where}"
            self.stop(service.name)
        for port in service.ports:
            if port_answers(port):
                raise StackError(
                    f"{service.name}: port {port} is used by a process that is not of this stack. "
                    "Stop that one, or move the whole stack: STACK_PORT_OFFSET=1000 make …"
                )
        log = self.logs / f"{service.name}.log"
        process = self._spawn(service, log)
        self._await_health(service, process, log)
        return f"started{where}"

    def running(self, name: str) -> Running | None:
        """The process noted for this service, if it lives and is still the one that was noted."""
        note = self.folder / f"{name}.json"
        if not note.exists():
            return None
        values = json.loads(note.read_text())
        running = Running(**{**values, "ports": tuple(values["ports"])})
        return running if running.alive else None

    def stop(self, name: str, patience: float = 20) -> str:
        """End the service's process and those it started, and wait until its ports are free."""
        running = self.running(name)
        (self.folder / f"{name}.json").unlink(missing_ok=True)
        if not running:
            return "was not running"
        with suppress(ProcessLookupError):
            os.kill(running.pid, running.stop_with)
        # Its children share its process group (each service leads one): none may stay behind.
        if not _within(patience, lambda: not _group_lives(running.pid)):
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
        if not _within(patience, lambda: not any(map(port_answers, running.ports))):
            raise StackError(f"{name}: stopped, but port {running.ports} still answers.")
        return "stopped"

    def names(self) -> list[str]:
        """Every service noted as started, the latest first."""
        notes = sorted(self.folder.glob("*.json"), key=lambda note: note.stat().st_mtime_ns)
        return [note.stem for note in reversed(notes)]

    def _spawn(self, service: Service, log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as out:
            process = subprocess.Popen(
                service.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **service.env},
                cwd="/",
                user=service.user,
                group=service.user,
                extra_groups=[] if service.user else None,
                start_new_session=True,
            )
        note = {
            "pid": process.pid,
            "started": _start_time(process.pid),
            "boot": BOOT.read_text(),
            "ports": service.ports,
            "stop_with": int(service.stop_with),
            "variant": service.variant,
        }
        (self.folder / f"{service.name}.json").write_text(json.dumps(note))
        return process

    def _await_health(self, service: Service, process: subprocess.Popen[bytes], log: Path) -> None:
        healthy = _within(
            service.seconds_to_start, lambda: process.poll() is not None or service.healthy()
        )
        if healthy and process.poll() is None:
            return
        problem = "ended" if process.poll() is not None else "does not answer"
        tail = "\n".join(
            f"    {line}" for line in log.read_text(errors="replace").splitlines()[-15:]
        )
        self.stop(service.name)
        raise StackError(f"{service.name} {problem} ({log}):\n{tail}")


def port_answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def url_answers(url: str) -> bool:
    """Whether the URL answers 200 within a few seconds."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except (OSError, urllib.error.HTTPError):
        return False


def redis_answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(7) == b"+PONG\r\n"
    except OSError:
        return False


def queue_has_worker(port: int, database: int, queue: str) -> bool:
    """Whether a worker of RQ has said at Redis that it listens to the queue."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(f"SELECT {database}\r\nSCARD rq:workers:{queue}\r\n".encode())
            with connection.makefile("rb") as said:
                return said.readline() == b"+OK\r\n" and int(said.readline()[1:]) > 0
    except (OSError, ValueError):
        return False


def _within(seconds: float, happened: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _start_time(pid: int) -> str | None:
    """When the process began, in clock ticks since boot; None when it has ended."""
    try:
        # The program's name, in parentheses, may hold anything: fields are counted from its end.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]


def _group_lives(group: int) -> bool:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            return True
    return False
