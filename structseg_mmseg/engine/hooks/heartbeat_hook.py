import faulthandler
import os
import socket
import sys
from datetime import timedelta
from threading import Event, Thread
from typing import Annotated, List

from mmengine.dist import all_gather_object, barrier, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import distributed

from structseg_mmseg.bounds import Within

LOOKS = 4  # in a timeout


@HOOKS.register_module()
class HeartbeatHook(Hook):
    """Ends all ranks when one of them is stopped, dead or cut off.

    On each rank a thread writes a beat to the store at which the ranks have met, and reads the
    others'. It runs beside saving and validating, so a rank that takes long over either is waited
    for, which the timeout of a collective cannot tell from one that is lost. A process that is
    suspended as a whole and goes on later (by Slurm, say) ends nothing: looks are counted, not
    seconds.

    Args:
        timeout (float): Seconds without a beat after which a rank is lost. Longer than any single
            call into C that keeps python's other threads waiting.
    """

    def __init__(self, timeout: Annotated[float, Within(1)] = 120) -> None:
        self.timeout = timeout

    def before_run(self, runner: Runner) -> None:
        """Begin to watch, as soon as all ranks are there."""
        if get_world_size() == 1:
            return
        hosts = all_gather_object(socket.gethostname())
        self._over = Event()
        silent = [0] * len(hosts)  # looks since the last news of each rank
        Thread(target=self._beat, args=(self._over, silent), daemon=True).start()
        Thread(target=self._watch, args=(self._over, silent, hosts, runner), daemon=True).start()

    def after_run(self, runner: Runner) -> None:
        """Watch until the last rank is here, too."""
        if get_world_size() > 1:
            barrier()
            self._over.set()

    def _beat(self, over: Event, silent: List[int]) -> None:
        """Beat, and listen; on a thread of its own, as a call waits for ever if a cable is cut."""
        beats = [0] * len(silent)
        try:
            # Launchers leave the place where all have met; two threads cannot share a client.
            store = distributed.TCPStore(
                os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT']), is_master=False,
                timeout=timedelta(seconds=self.timeout))
            while not over.wait(self.timeout / LOOKS):
                for rank, last in enumerate(beats):
                    beats[rank] = store.add(f'heartbeat/{rank}', int(rank == get_rank()))
                    if beats[rank] != last:
                        silent[rank] = 0
        except RuntimeError:  # there is no store any more, which leaves this rank silent, too
            pass

    def _watch(self, over: Event, silent: List[int], hosts: List[str], runner: Runner) -> None:
        while not over.wait(self.timeout / LOOKS):
            for rank in range(len(silent)):
                silent[rank] += 1
            if max(silent) <= LOOKS:
                continue
            if silent[get_rank()] > LOOKS / 2:  # not even its own beats arrive
                lost = "rank 0's machine ({MASTER_ADDR}:{MASTER_PORT})".format_map(os.environ)
            else:
                rank = silent.index(max(silent))
                lost = f'rank {rank} on {hosts[rank]}'
            # Should the log lie on the lost machine, writing it may take for ever.
            faulthandler.dump_traceback_later(10, exit=True, file=2)
            sentence = (f'{lost} has given no sign of life for {self.timeout:g} s: see whether it '
                        'is stopped, dead or cut off, and go on with --resume')
            print(f'error: {sentence}', file=sys.stderr, flush=True)
            runner.logger.error(sentence)
            os._exit(1)
