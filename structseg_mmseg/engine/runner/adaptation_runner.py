import ast
import fcntl
import logging
import os
import socket
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Iterator, List, Optional, Tuple

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

# How the records begin that nobody reads in a terminal; the log file has them.
FOR_THE_FILE = ('\n' + '-' * 60 + '\nSystem environment:', 'Config:\n', 'Hooks will be executed',
                'paramwise_options -- ', 'Distributed training is not used, all SyncBatchNorm',
                '"HardDiskBackend" is the alias of "LocalBackend"',
                '"FileClient" will be deprecated', 'The prefix is not set in metric class')
# Keys that say where and how a run is started, not what it does.
OF_THE_START = ('resume', 'load_from', 'work_dir', 'launcher', 'experiment_name')


@RUNNERS.register_module()
class AdaptationRunner(Runner):
    """``Runner`` that looks after its work dir, and whose terminal shows what people look for.

    The log file has everything. Only one training at a time has a work dir. ``--resume`` goes on
    with its last sound checkpoint, also where ``load_from`` names what a training starts from
    (mmengine's would go on behind *that* file's last iteration), and says what the config has
    changed since.
    """

    _load_from: Optional[str]

    def __init__(self, *args, **kwargs) -> None:
        load_safely()
        super().__init__(*args, **kwargs)

    @classmethod
    def from_cfg(cls, cfg: Config) -> 'AdaptationRunner':
        """As ``Runner``'s, after a look at the config's keys."""
        check_config(cfg)
        return super().from_cfg(cfg)

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """As ``Runner``'s, with a filter on what it writes to the terminal."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                # No traceback for each line on a full disk: what else is written ends the run.
                handler.handleError = lambda record: None  # type: ignore[method-assign]
            else:
                handler.addFilter(_for_the_terminal)
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
            self._load_from = found[0] or self._load_from
            if found[0] is None and self._load_from is not None:
                self._resume = False
                self.logger.info(f'{self.work_dir} has no checkpoint to resume: '
                                 f'the run starts from {self._load_from}')
        super().load_or_resume()

    def load_checkpoint(self, filename: str, *args, **kwargs) -> dict:
        """As ``Runner``'s; a run that resumes says what its config has changed."""
        checkpoint = super().load_checkpoint(filename, *args, **kwargs)
        before = checkpoint.get('meta', {}).get('cfg')
        if self._resume and before is not None:
            changes = _changes(before, self.cfg.pretty_text)
            if changes:
                more = f', and {len(changes) - 5} more' if len(changes) > 5 else ''
                self.logger.warning('the run goes on with a config that is not the one of '
                                    f'{filename}: {", ".join(changes[:5])}{more}')
        return checkpoint


def _for_the_terminal(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(FOR_THE_FILE)


def _lock(folder: str) -> IO[str]:
    """Keep other trainings out of a folder until the file that is returned is closed.

    The lock is ``lockf``'s, which ends with this process, however it ends. ``flock``'s would be
    shared with the workers of data loaders, which outlive a killed run by seconds.
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


def _changes(before: str, after: str) -> List[str]:
    """What differs between the texts of two configs, key by key."""
    try:
        old, new = (dict(_settings(ast.parse(text))) for text in (before, after))
    except (SyntaxError, ValueError):
        return ['it cannot be compared, as some of it has no text']
    return [f'{key} was {old.get(key, "not set")} and is {new.get(key, "not set")}'
            for key in {**old, **new}
            if old.get(key) != new.get(key) and key not in OF_THE_START]


def _settings(node: ast.AST, key: str = '') -> Iterator[Tuple[str, str]]:
    """Keys and values of a config's text, which is read, not run: it may be a checkpoint's."""
    if isinstance(node, ast.Module):
        children = [(ast.unparse(line.targets[0]), line.value) for line in node.body
                    if isinstance(line, ast.Assign)]
    elif isinstance(node, ast.Call) and node.keywords:
        children = [(f'{key}.{keyword.arg}', keyword.value) for keyword in node.keywords]
    elif isinstance(node, ast.Dict):
        children = [(f'{key}.{ast.unparse(name)}', value)
                    for name, value in zip(node.keys, node.values) if name is not None]
    elif isinstance(node, (ast.List, ast.Tuple)):
        children = [(f'{key}.{index}', value) for index, value in enumerate(node.elts)]
    else:
        yield key, ast.unparse(node)
        return
    for name, child in children:
        yield from _settings(child, name)
