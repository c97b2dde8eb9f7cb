import os
import os.path as osp
import pickle
import struct
import tarfile
import zipfile
from dataclasses import dataclass
from typing import Any, List, Tuple

import torch

from .inert_pickle import inert_pickle

#: What reading a file that is not whole, or not a checkpoint, may raise.
_DAMAGE = (pickle.UnpicklingError, EOFError, RuntimeError, OSError,
           LookupError, UnicodeError, struct.error, TypeError, ValueError,
           AttributeError, AssertionError, OverflowError, MemoryError,
           zipfile.BadZipFile)


@dataclass(frozen=True)
class OfficialFile:
    """What :func:`load_official_file` read.

    Args:
        path (str): Path of the file.
        content (Any): What it holds, as a rule a dict.
        ignored (Tuple[str, ...]): Classes and functions that the file names
            and that were neither imported nor called.
    """
    path: str
    content: Any
    ignored: Tuple[str, ...]


def load_official_file(path: str) -> OfficialFile:
    """Read a checkpoint of official code, without running code from it.

    Official files hold an ``argparse.Namespace`` or a node of a config
    library beside the weights. Such objects become placeholders; see
    :func:`~transmamba_mm.convert.inert_pickle.inert_pickle`. The zip format
    and the one before it are read.

    Args:
        path (str): Path of the file; ``~`` is expanded.

    Returns:
        OfficialFile: Content with all tensors on the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is truncated, damaged or no checkpoint.
    """
    path = osp.expanduser(os.fspath(path))
    if not osp.isfile(path):
        raise FileNotFoundError(
            f'checkpoint {path!r} does not exist; give the path of an '
            'official weight file as SRC')
    ignored: List[str] = []
    try:
        _refuse_programs(path)
        content = torch.load(
            path,
            map_location='cpu',
            pickle_module=inert_pickle(ignored),
            weights_only=False,
            mmap=False)
    except _DAMAGE as error:
        raise ValueError(
            f'checkpoint {path!r} is truncated, damaged or not a PyTorch '
            f'checkpoint ({osp.getsize(path)} bytes; {_first_line(error)}). '
            'Copy or download it again, and compare its size with the one '
            'that its authors publish') from error
    return OfficialFile(path, content, tuple(ignored))


def _refuse_programs(path: str) -> None:
    """Refuse the two formats that ``torch.load`` hands to other readers."""
    with open(path, 'rb') as file:
        is_zip = file.read(4) == b'PK\x03\x04'
    if is_zip:
        reader = torch._C.PyTorchFileReader(path)
        if reader.has_record('constants.pkl'):
            raise pickle.UnpicklingError(
                'it is a TorchScript program, not a state dict')
    elif tarfile.is_tarfile(path):
        raise pickle.UnpicklingError('it is a tar archive')


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160]
