"""Refuses all that leaves the machine, to a process whose PYTHONPATH names this folder."""
import sys


def _refuse(event: str, args: tuple) -> None:
    # The address of a connection is a tuple, that of one between processes a path.
    if event == 'socket.getaddrinfo' or event == 'socket.connect' and isinstance(args[1], tuple):
        raise PermissionError(f'{event} {args}: nothing may leave this machine')


sys.addaudithook(_refuse)
