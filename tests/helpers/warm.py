"""A Python that has imported what the tools need, so that each process of it starts at once.

``python()`` is the path of an executable that runs ``SCRIPT``, ``-m MODULE`` and ``-c CODE``, with
its arguments, environment, folder, output and exit status, as ``sys.executable`` does; processes
that a tool starts are of its kind, too. Behind it is a fork of one process with a single thread, in
which no operation of torch has run; it sees no GPU, and dies with the executable.
"""
import atexit
import functools
import json
import os
import runpy
import select
import shutil
import signal
import site
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import List, Tuple

CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.connect({address!r})
job = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [job], [0, 1, 2])
pid = int(server.recv(16))
forwarded = signal.SIGINT, signal.SIGTERM
for number in forwarded:
    signal.signal(number, lambda number, frame: os.kill(pid, number))
status = int(server.recv(16))
if os.WIFSIGNALED(status):
    for number in forwarded:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), os.WTERMSIG(status))
os._exit(os.WEXITSTATUS(status))
"""


@functools.cache
def python() -> str:
    """The path of the executable, behind which a server runs as long as this process."""
    folder = Path(tempfile.mkdtemp(prefix='warm'))
    atexit.register(shutil.rmtree, folder)
    client = folder / 'python'
    client.write_text(CLIENT.format(python=sys.executable, address=str(folder / 'socket')))
    client.chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, __file__, client, folder / 'socket'], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, start_new_session=True,
        env=dict(os.environ, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='', PYTHONWARNINGS='ignore'))
    atexit.register(server.wait)
    atexit.register(server.stdin.close)  # which ends it
    assert b'ready\n' in server.stdout
    return str(client)


def requests(address: str) -> Tuple[List[str], str, dict]:
    """Fork a process for each that connects, and return there what to do."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen()
    print('ready', flush=True)
    while True:
        if sys.stdin in select.select([listener, sys.stdin], [], [])[0]:
            os._exit(0)
        connection, _ = listener.accept()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if os.fork():
            connection.close()
            continue
        listener.close()
        job, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        pid = os.fork()
        if not pid:
            connection.close()
            for number, descriptor in enumerate(descriptors):
                os.dup2(descriptor, number)
                os.close(descriptor)
            return json.loads(job)
        for descriptor in descriptors:  # else a pipe's end would stay open
            os.close(descriptor)
        with suppress(OSError):  # whoever connected was killed
            connection.send(str(pid).encode())
            ended = os.pidfd_open(pid)
            if ended not in select.select([connection, ended], [], [])[0]:
                os.kill(pid, signal.SIGKILL)
            connection.send(str(os.waitpid(pid, 0)[1]).encode())
        os._exit(0)


def become(argv: List[str], folder: str, environment: dict) -> None:
    """Do what Python does with a command line."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = filter(None, os.environ.get('PYTHONPATH', '').split(os.pathsep))
    site.execsitecustomize()
    torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS', 1)))
    while argv[0] == '-u':
        del argv[0]
    kind = argv.pop(0) if argv[0] in ('-c', '-m') else None
    sys.argv = argv
    sys.path.insert(0, '' if kind else os.path.dirname(os.path.abspath(argv[0])))
    if kind == '-m':
        runpy.run_module(argv[0], run_name='__main__', alter_sys=True)
    elif kind == '-c':
        code, argv[0] = argv[0], kind
        exec(compile(code, '<string>', 'exec'), dict(__name__='__main__'))
    else:
        runpy.run_path(argv[0], run_name='__main__')


if __name__ == '__main__':
    del sys.path[0]  # this folder
    sys.executable, address = sys.argv[1:]
    import matplotlib.pyplot  # noqa: F401
    import mmseg.apis  # noqa: F401
    import torch
    import torch.distributed.run
    import torch.utils.benchmark  # noqa: F401

    import structseg_mmseg  # noqa: F401
    runpy.run_path(str(Path(__file__).with_name('quick.py')))
    become(*requests(address))
