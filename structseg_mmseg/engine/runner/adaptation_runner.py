import logging

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import Runner, find_latest_checkpoint
from mmseg.registry import RUNNERS

from structseg_mmseg.engine.config_check import check_config

# How the records begin that nobody reads in a terminal; the log file has them.
FOR_THE_FILE = ('\n' + '-' * 60 + '\nSystem environment:', 'Config:\n', 'Hooks will be executed',
                'paramwise_options -- ', 'Distributed training is not used, all SyncBatchNorm',
                '"HardDiskBackend" is the alias of "LocalBackend"',
                '"FileClient" will be deprecated', 'The prefix is not set in metric class')


@RUNNERS.register_module()
class AdaptationRunner(Runner):
    """``Runner`` whose terminal shows what people look for; its log file has everything.

    ``--resume`` goes on with the work dir's last checkpoint also where ``load_from`` names what a
    training starts from. mmengine's would go on behind *that* file's last iteration.
    """

    @classmethod
    def from_cfg(cls, cfg: Config) -> 'AdaptationRunner':
        """As ``Runner``'s, after a look at the config's keys."""
        check_config(cfg)
        return super().from_cfg(cfg)

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """As ``Runner``'s, with a filter on what it writes to the terminal."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_for_the_terminal)
        return logger

    def load_or_resume(self) -> None:
        """As ``Runner``'s, but of two places to resume from the work dir comes first."""
        if self._resume and self._load_from and find_latest_checkpoint(self.work_dir):
            self._load_from = None
        super().load_or_resume()


def _for_the_terminal(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(FOR_THE_FILE)
