import os
from pathlib import Path
from typing import Any, List, Union

from mmengine.dist import all_reduce_params, is_main_process
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
        # One name for all: what a killed run has left the next file overwrites, whatever its name.
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
    """``CheckpointHook`` that a run may be killed in at any moment: ``--resume`` always works.

    A checkpoint, the best one (``save_best``) and the file ``last_checkpoint`` appear under their
    names when they are complete, and what they replace goes when they are there, not before.
    Arguments are ``CheckpointHook``'s. Storage other than a local disk is left to its own
    guarantees.
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
        if not isinstance(self.file_backend, AtomicBackend):
            return super()._save_checkpoint_with_step(runner, step, meta)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        outdated = []
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            # The checkpoint lists one more than is kept: should this run die before it removes that
            # one, mmengine does when the next begins.
            steps = [*self.keep_ckpt_ids, step]
            runner.message_hub.update_info('keep_ckpt_ids', steps)
            outdated = steps[:-self.max_keep_ckpts]
            self.keep_ckpt_ids.append(step)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args)
        if is_main_process():
            self.file_backend.put(self.last_ckpt.encode(), Path(runner.work_dir, 'last_checkpoint'))
            for step in outdated:
                Path(self.out_dir, self.filename_tmpl.format(step)).unlink(missing_ok=True)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self.save_best:
            return
        previous: List[str] = []
        self.file_backend.remove = previous.append  # mmengine removes it before it saves
        super()._save_best_checkpoint(runner, metrics)
        del self.file_backend.remove
        for path in previous:
            self.file_backend.remove(path)
