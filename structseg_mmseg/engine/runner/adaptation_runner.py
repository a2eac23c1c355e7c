import fcntl
import logging
import os
import re
import socket
from contextlib import nullcontext
from difflib import unified_diff
from pathlib import Path
from typing import IO, Optional

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from mmengine.logging import MMLogger
from mmengine.runner import BaseLoop, Runner
from mmseg.registry import RUNNERS
from torch import nn

from structseg_mmseg.engine.checkpoint import last_sound_checkpoint, load_safely
from structseg_mmseg.engine.config_check import check_config
from structseg_mmseg.engine.distributed import check_ranks, config_hash
from structseg_mmseg.errors import DISK_FULL, InputError

# Keys that say where and how a run is started, not what it does.
OF_THE_START = re.compile(r'[-+](resume|load_from|work_dir|launcher|experiment_name) =')


@RUNNERS.register_module()
class AdaptationRunner(Runner):
    """``Runner`` that checks its config, loads checkpoints safely and looks after its work dir.

    Only one training at a time has a work dir. ``--resume`` goes on with its last sound checkpoint
    and logs what the config has changed since; ``load_from`` only initialises.
    """

    _load_from: Optional[str]
    _resume: bool

    def __init__(self, *args, **kwargs) -> None:
        load_safely()
        super().__init__(*args, **kwargs)

    @classmethod
    def from_cfg(cls, cfg: Config) -> 'AdaptationRunner':
        """As ``Runner``'s, after :func:`check_config`."""
        check_config(cfg)
        return super().from_cfg(cfg)

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """As ``Runner``'s, without a traceback for each line on a full disk."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                handler.handleError = lambda record: None  # type: ignore[method-assign]
        return logger

    def wrap_model(self, *args, **kwargs) -> nn.Module:
        """As ``Runner``'s.

        Raises:
            InputError: If the configs of ranks differ.
        """
        if get_world_size() > 1:
            check_ranks({'the hash of the config': config_hash(self.cfg)})
        return super().wrap_model(*args, **kwargs)

    def train(self) -> nn.Module:
        """As ``Runner``'s, alone in the work dir.

        Raises:
            InputError: If another training has the work dir, or the disk is full.
        """
        with _lock(self.work_dir) if is_main_process() else nullcontext():
            try:
                return super().train()
            except OSError as error:
                if error.errno not in DISK_FULL:
                    raise
                checkpoint = last_sound_checkpoint(self.work_dir)
                if checkpoint is None:
                    raise
                raise InputError(
                    f'{error.filename or "the log"} cannot be written, as the disk is full: make '
                    f'room and go on from {checkpoint} with --resume') from error

    def load_or_resume(self) -> None:
        """As ``Runner``'s, but only the work dir is resumed; ``load_from`` initialises."""
        if self._resume and isinstance(self._train_loop, BaseLoop):  # built by train(), not test()
            found = [last_sound_checkpoint(self.work_dir) if is_main_process() else None]
            broadcast_object_list(found)
            if found[0] is None and self._load_from is not None:
                self._resume = False
                self.logger.info(f'{self.work_dir} has no checkpoint to resume: '
                                 f'the run starts from {self._load_from}')
            self._load_from = found[0] or self._load_from
        super().load_or_resume()

    def load_checkpoint(self, filename: str, *args, **kwargs) -> dict:
        """As ``Runner``'s; a run that resumes logs what its config has changed."""
        checkpoint = super().load_checkpoint(filename, *args, **kwargs)
        before = checkpoint.get('meta', {}).get('cfg')
        if self._resume and before is not None:
            lines = unified_diff(before.splitlines(), self.cfg.pretty_text.splitlines(), n=0)
            changes = [line for line in lines if not line.startswith(('---', '+++', '@@'))
                       and not OF_THE_START.match(line)]
            if changes:
                self.logger.warning('\n'.join([f'the config differs from that of {filename}:',
                                               *changes]))
        return checkpoint


def _lock(folder: str) -> IO[str]:
    """Keep other trainings out of a folder until this process ends or closes the file.

    The lock is ``lockf``'s: ``flock``'s, which filelock takes, is shared with forked workers of
    data loaders, which outlive a killed run by seconds.
    """
    file = open(Path(folder, '.lock'), 'a+')
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        raise InputError(f'{folder} is the work dir of a running training ({file.read()}): let it '
                         'end, or give another --work-dir') from None
    except OSError:
        pass  # a file system without locks
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()}')
    file.flush()
    return file
