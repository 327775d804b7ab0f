"""Our command in a process of its own that need not load it first: forked from one that has.

A start costs more than a second of processor time, nearly all of it for imports, and the tests start hundreds. What
is forked is a process like any other, with arguments, environment, files and signals of its own; what it lacks is the
start itself, which the tests of the installed command have.

``python -m tests.forked SOCKET`` is the process that they are forked from; ``Forked`` is one of them, like a Popen.
"""

import array
import atexit
import fcntl
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

CHECKOUT = Path(__file__).parents[1]
_LOADED = [f"immich_dbsync.cli.{name}_cmd" for name in ("run", "status", "resync", "holds", "users", "triggers")]
_REQUEST = 1 << 20  # bytes of one request: an environment and arguments


class Forked:
    """A process that runs a module as ``__main__``, with these arguments and this environment, in ``/``.

    With a ``terminal`` it is controlled by that, and reads and writes nothing else; without one or a ``stdin`` it reads
    nothing.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        env: Mapping[str, str],
        stdout: int = -1,
        stderr: int = -1,
        stdin: int | None = None,
        terminal: int | None = None,
    ) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.connect(_parent())
        request = json.dumps({"module": module, "argv": ["immich-dbsync", *arguments], "env": dict(env)})
        reads = [] if stdin is None else [stdin]
        files = array.array("i", [stdout, stderr, *reads] if terminal is None else [terminal])
        self._socket.sendmsg([request.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
        self.pid = int(self._socket.recv(64))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, or the signal that ended it, negative; None while it runs."""
        with suppress(TimeoutError, BlockingIOError):
            self._receive(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; subprocess.TimeoutExpired after ``timeout`` seconds."""
        try:
            self._receive(timeout)
        except TimeoutError:
            raise subprocess.TimeoutExpired("immich-dbsync", timeout or 0) from None
        assert self.returncode is not None
        return self.returncode

    def _receive(self, timeout: float | None) -> None:
        if self.returncode is None:
            self._socket.settimeout(timeout)  # 0 does not wait
            said = self._socket.recv(64)
            self._socket.close()
            assert said, "the process that all are forked from has ended"
            self.returncode = os.waitstatus_to_exitcode(int(said))

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@cache
def _parent() -> str:
    """The socket of the process that all are forked from, which is started with the first and ends with this one."""
    folder = tempfile.TemporaryDirectory(prefix="dbsync-fork-", dir="/tmp")
    path = f"{folder.name}/socket"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.forked", path], cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"ready\n"
    end = process.stdin.close

    def stop() -> None:
        end()
        process.wait()
        folder.cleanup()

    atexit.register(stop)
    return path


def _serve(path: str) -> None:
    for name in _LOADED:
        import_module(name)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(16)
    woken, wake = socket.socketpair()
    woken.setblocking(False)
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    children: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        for readable in (listener, woken, sys.stdin):
            selector.register(readable, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:  # closed: whoever started us has ended
                    for pid in children:
                        os.kill(pid, signal.SIGKILL)
                    return
                if key.fileobj is listener:
                    _fork(listener.accept()[0], children)
                else:
                    woken.recv(4096)
            while children:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                with suppress(OSError), children.pop(pid) as asker:
                    asker.send(str(status).encode())


def _fork(asker: socket.socket, children: dict[int, socket.socket]) -> None:
    message, ancillary, _, _ = asker.recvmsg(_REQUEST, socket.CMSG_SPACE(12))
    files = array.array("i")
    for _, _, data in ancillary:
        files.frombytes(data)
    pid = os.fork()
    if pid == 0:
        _become(json.loads(message), [*files])
    for fd in files:
        os.close(fd)
    children[pid] = asker
    asker.send(str(pid).encode())


def _become(request: dict[str, Any], files: Sequence[int]) -> NoReturn:
    """Run what is asked for, as a fresh interpreter would, and end. ``files``: output and input, or the terminal."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if len(files) == 1:
        os.setsid()
        fcntl.ioctl(files[0], termios.TIOCSCTTY, 0)
        files = [*files] * 3
    else:
        files = [files[2] if len(files) > 2 else os.open(os.devnull, os.O_RDONLY), *files[:2]]
    for number, fd in enumerate(files):
        os.dup2(fd, number)
    os.closerange(3, 256)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir("/")
    sys.argv = request["argv"]
    sys.modules["__main__"].__package__ = None  # usage messages name the command by its argv
    code: object = 1
    try:
        runpy.run_module(request["module"], run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code
        if isinstance(code, str):
            sys.stderr.write(f"{code}\n")
    except BaseException:  # noqa: BLE001  # as the interpreter does
        sys.excepthook(*sys.exc_info())
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as the interpreter's end does
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    _serve(sys.argv[1])
