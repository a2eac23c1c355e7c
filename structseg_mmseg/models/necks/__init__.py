from .reconstruction_decoder import ReconstructionDecoder

__all__ = ['ReconstructionDecoder']
