import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, List, Union

from mmengine.dist import all_reduce_params
from mmengine.fileio import LocalBackend, get_file_backend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner
from mmseg.registry import HOOKS


@register_backend('atomic')
class AtomicBackend(LocalBackend):
    """A local disk on which a file appears under its name when it is complete, or not at all."""

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        """Write bytes to a file.

        Raises:
            OSError: If they cannot be written, such as on a full disk; it names the file.
        """
        # One name for all: whatever a killed run has left, the next file overwrites.
        part = Path(filepath).with_name('checkpoint.part')
        try:
            super().put(obj, part)
            with part.open('rb') as file:
                os.fsync(file.fileno())  # so that not even a power cut leaves half of it
        except OSError as error:
            part.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, str(filepath)) from None
        os.replace(part, filepath)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """``CheckpointHook`` with atomic writes: a run killed at any time can be resumed.

    A checkpoint is removed only once the one that replaces it is complete. Ranks average the
    running statistics of BatchNorm before they save. Arguments are ``CheckpointHook``'s.
    """

    file_backend: Any

    def before_train(self, runner: Runner) -> None:
        """As ``CheckpointHook``'s, with an :class:`AtomicBackend` for a local disk."""
        super().before_train(runner)
        if isinstance(self.file_backend, LocalBackend):
            self.backend_args = dict(backend='atomic')
            self.file_backend = get_file_backend(backend_args=self.backend_args)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        all_reduce_params(runner.model.buffers(), op='mean')
        with self._removing_afterwards():
            super()._save_checkpoint_with_step(runner, step, meta)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if self.save_best:
            with self._removing_afterwards():
                super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _removing_afterwards(self) -> Iterator[None]:
        """Postpone what mmengine removes before it saves."""
        outdated: List[str] = []
        remove = self.file_backend.remove
        self.file_backend.remove = outdated.append
        try:
            yield
        finally:
            self.file_backend.remove = remove
        for path in outdated:
            remove(path)
