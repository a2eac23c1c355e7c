from .bars import draw_bars

__all__ = ['draw_bars']
