"""What the parts of `make conformance` that are written in Python share: a gateway as a process, origins, cases that are counted.

    with Cases() as cases, Gateway(f'services.api.upstreams = ["127.0.0.1:{port}"]') as gateway:
        with cases.case("an echo comes back"):
            expect(sent, answer, "the body")
"""

import contextlib
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

READY_WITHIN = 60
END_WITHIN = 40


class Failed(Exception):
    """A case that did not go as it should."""


def expect(wanted, seen, what, sent=None):
    """Fails the current case unless both are equal."""
    if wanted != seen:
        said = f"; sent {sent!r}" if sent is not None else ""
        raise Failed(f"{what}: expected {wanted!r}, seen {seen!r}{said}")


def check(holds, what):
    """Fails the current case unless it holds; `what` says what should have been and what was."""
    if not holds:
        raise Failed(what)


class Cases:
    """Counts cases, prints those that failed, and ends the program with the line that scripts/conformance reads."""

    def __init__(self):
        self.count = 0
        self.failed = 0

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None:
            self.count += 1
            self.failed += 1
            if not issubclass(kind, (KeyboardInterrupt, SystemExit)):
                traceback.print_exception(kind, error, trace, file=sys.stdout)
        print(f"cases={self.count} failed={self.failed}", flush=True)
        # Threads of clients must not keep the program.
        sys.stdout.flush()
        os._exit(1 if self.failed else 0)

    @contextlib.contextmanager
    def case(self, name):
        """One case: what is raised inside is its failure, and the next one runs all the same."""
        self.count += 1
        try:
            yield
        except Failed as failed:
            self.failed += 1
            print(f"FAILED {name}: {failed}", flush=True)
        except Exception as error:  # a client's own exceptions are findings too
            self.failed += 1
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{pathlib.Path(where.filename).name}:{where.lineno}"
            print(f"FAILED {name}: {type(error).__name__}: {error} ({place})", flush=True)

    def fail(self, name, why):
        """A case that is known to have failed."""
        with self.case(name):
            raise Failed(why)

    def note(self, text):
        """A figure for whoever reads."""
        print(f"  {text}", flush=True)


class Gateway:
    """`tidegate up` with this file (TOML), on a free port of 127.0.0.1; `inside` is a command that it runs below."""

    def __init__(self, text, inside=(), listen="127.0.0.1:0", nofile=None, environment=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="gateway-", dir=os.environ.get("WORK")))
        self.file = self.folder / "tidegate.toml"
        self.file.write_text(text)
        self.log = self.folder / "gateway.log"
        self.inside, self.listen, self.nofile = list(inside), listen, nofile
        self.environment = environment or {}
        self.child = self.port = self.metrics_port = None

    def __enter__(self):
        environment = {
            **os.environ,
            "TIDEGATE_GATEWAY__METRICS": "127.0.0.1:0",
            "TIDEGATE_LOG": os.environ.get("TIDEGATE_LOG", "warn"),
            **self.environment,
        }
        if self.listen:
            environment["TIDEGATE_GATEWAY__LISTEN"] = self.listen
        command = [*self.inside, os.environ["TIDEGATE"], "up", "--config", self.file, "--state", self.folder / "state"]
        self.said = open(self.folder / "gateway.out", "wb+")
        limit = (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (self.nofile, self.nofile))) if self.nofile else None
        self.child = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=self.said, stderr=open(self.log, "wb"), preexec_fn=limit
        )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def _wait(self):
        deadline = time.monotonic() + READY_WITHIN
        while time.monotonic() < deadline:
            said = (self.folder / "gateway.out").read_text(errors="replace")
            ready = re.search(r"tidegate: ready on \S*?:(\d+)[,;]", said)
            if ready:
                self.port = int(ready.group(1))
                metrics = re.search(r"metrics on http://[^ ]*:(\d+)/", said)
                self.metrics_port = int(metrics.group(1)) if metrics else None
                return
            if self.child.poll() is not None:
                break
            time.sleep(0.02)
        raise Failed(f"the gateway does not start:\n{self.words()}")

    def words(self):
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    @property
    def pid(self):
        return self.child.pid

    def connect(self, timeout=20):
        """A plain connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def memory(self):
        """Its resident memory, in bytes."""
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) * 1024

    def cpu(self):
        """The seconds of processor time that it has used."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def files(self):
        """How many files and sockets it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def metric(self, name, *labels):
        """The sum of a metric's samples with all of these labels (`reason="no_route"`)."""
        import urllib.request

        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        mine = (line for line in lines if re.match(rf"{name}[{{ ]", line) and all(label in line for label in labels))
        return sum(float(line.rsplit(" ", 1)[1]) for line in mine)

    def stop(self):
        """Ends it; what it still had to do gets a moment. Its folder goes, unless its end was not clean."""
        if self.child is None:
            return
        child, self.child = self.child, None
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(END_WITHIN)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def free_port():
    """A port of 127.0.0.1 that was free a moment ago, for daemons that cannot be given a socket."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def eventually(what, holds, within=20):
    """Waits until it holds; the current case fails if it never does. Gives back what `holds` gave."""
    deadline = time.monotonic() + within
    while True:
        seen = holds()
        if seen:
            return seen
        check(time.monotonic() < deadline, f"it never came true that {what}")
        time.sleep(0.02)


class Process:
    """A daemon that is started, awaited at its port, and ended with the block."""

    def __init__(self, command, port=None, environment=None, cwd=None):
        self.command, self.port, self.environment, self.cwd = [str(word) for word in command], port, environment, cwd

    def __enter__(self):
        self.log = tempfile.NamedTemporaryFile(prefix="daemon-", suffix=".log", dir=os.environ.get("WORK"))
        environment = {**os.environ, **(self.environment or {})}
        self.child = subprocess.Popen(
            self.command, env=environment, cwd=self.cwd, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            start_new_session=True,
        )
        deadline = time.monotonic() + 20
        while self.port is not None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                break
            if self.child.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise Failed(f"{self.command[0]} does not listen:\n{pathlib.Path(self.log.name).read_text(errors='replace')}")
            time.sleep(0.02)
        return self

    def __exit__(self, *_):
        # Its own group: nginx, gunicorn and their like have workers.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGTERM)
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()
