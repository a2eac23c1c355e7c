from pathlib import Path
from typing import Container, Sequence

from PIL import Image

from structseg_mmseg.errors import InputError


def check_headers(files: Sequence[str], uneven: Container[str] = ()) -> None:
    """Refuse files that would be decoded without an error, but wrongly; no pixel is read.

    Args:
        files (Sequence[str]): An image and, if it has one, its label, on a local disk.
        uneven (Container[str]): Names of images, without suffix, whose labels may have another
            size, such as ``GTADataset.uneven``.

    Raises:
        InputError: If a file has more than 8 bits of grey, label and image differ in size, or one
            of the two is to be shown rotated.
        OSError: If a file is no image.
    """
    sizes = []
    for file in files:
        with Image.open(file) as picture:
            if picture.mode[0] in 'FI':  # 'F', 'I', 'I;16': they are clipped or wrap around
                raise InputError(f'{file} has pixels of type {picture.mode}: save it with 8 bits a '
                                 'channel')
            # A look into info, as getexif() may decode the whole; 0x0112 is the orientation.
            turn = picture.getexif().get(0x0112, 1) if 'exif' in picture.info else 1
            if len(files) > 1 and turn != 1:
                raise InputError(f'{file} has the EXIF orientation {turn}, which its partner '
                                 'lacks: rotate its pixels instead')
            sizes.append('x'.join(map(str, picture.size)))
    if len(set(sizes)) > 1 and Path(files[0]).stem not in uneven:
        raise InputError(f'{files[1]} has {sizes[1]} pixels where its image has {sizes[0]}: give a '
                         'label of the same size')
