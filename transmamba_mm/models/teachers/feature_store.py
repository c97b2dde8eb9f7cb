import hashlib
import json
import os
import os.path as osp
import struct
import time
import uuid
import zlib
from typing import Dict, List, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

_MAGIC = b'TMFEAT01'
_ENDING = '.features'
_PARTIAL = '.part'
_STALE_SECONDS = 3600.

Features = Dict[str, Tensor]


class FeatureStore:
    """Features of images on disk, one small file an image.

    A file is written under another name and then renamed, so that several
    processes may write, and a kill leaves at most a file that nobody reads. A
    file that is damaged all the same (length and CRC-32 are checked) counts
    as missing.

    Args:
        folder (str): Folder; it is made if missing.
        dtype (torch.dtype): Precision on disk. What is read has the precision
            of what was written. Defaults to ``torch.float32``.
    """

    def __init__(self,
                 folder: str,
                 dtype: torch.dtype = torch.float32) -> None:
        self.folder = folder
        self.dtype = dtype
        os.makedirs(folder, exist_ok=True)

    def path(self, key: str) -> str:
        """Return the file of a key.

        Args:
            key (str): Any text.

        Returns:
            str: A path below the folder.
        """
        name = hashlib.sha256(key.encode()).hexdigest()[:40]
        return osp.join(self.folder, name[:2], name + _ENDING)

    def read(self, key: str) -> Optional[Tuple[Features, List[float]]]:
        """Read the features of an image.

        Args:
            key (str): Key of the image.

        Returns:
            Tuple[Dict[str, Tensor], List[float]], optional: Features by name
            and the marks of the image; None if they are missing or damaged.
        """
        try:
            with open(self.path(key), 'rb') as file:
                data = bytearray(os.fstat(file.fileno()).st_size)
                size = file.readinto(data)
        except OSError:
            return None
        return _unpack(key, data) if size == len(data) else None

    def write(self, key: str, features: Features, marks: List[float]) -> int:
        """Write the features of an image.

        Args:
            key (str): Key of the image.
            features (Dict[str, Tensor]): Features by name.
            marks (List[float]): Numbers by which the image is recognised.

        Returns:
            int: Bytes written.

        Raises:
            OSError: If the disk is full or the folder cannot be written.
        """
        path = self.path(key)
        data = _pack(key, features, marks, self.dtype)
        os.makedirs(osp.dirname(path), exist_ok=True)
        partial = f'{path}.{os.getpid()}-{uuid.uuid4().hex[:8]}{_PARTIAL}'
        try:
            with open(partial, 'wb') as file:
                file.write(data)
            os.replace(partial, path)
        except OSError:
            if osp.exists(partial):
                os.remove(partial)
            raise
        return len(data)

    def count(self) -> int:
        """Count the images, and remove what a killed process left behind.

        Returns:
            int: Number of files.
        """
        number = 0
        for folder in os.scandir(self.folder):
            if not folder.is_dir():
                continue
            for entry in os.scandir(folder.path):
                number += entry.name.endswith(_ENDING)
                if entry.name.endswith(_PARTIAL):
                    _remove_if_old(entry)
        return number

    def image_bytes(self) -> int:
        """Return the size of one image's file.

        Returns:
            int: Bytes of the first file found, 0 if there is none.
        """
        for folder in os.scandir(self.folder):
            if not folder.is_dir():
                continue
            for entry in os.scandir(folder.path):
                if entry.name.endswith(_ENDING):
                    return entry.stat().st_size
        return 0


def _remove_if_old(entry: os.DirEntry) -> None:
    """Remove a half-written file; a young one may still be written."""
    try:
        if time.time() - entry.stat().st_mtime > _STALE_SECONDS:
            os.remove(entry.path)
    except OSError:
        pass  # another process was faster


def _pack(key: str, features: Features, marks: List[float],
          dtype: torch.dtype) -> bytes:
    """Return magic, length, JSON header, the tensors and a CRC-32."""
    header = dict(
        key=key,
        marks=marks,
        stored=_name(dtype),
        tensors=[[k, list(v.shape), _name(v.dtype)]
                 for k, v in features.items()])
    told = json.dumps(header).encode()
    told += b' ' * (-(len(_MAGIC) + 4 + len(told)) % 8)  # align the tensors
    parts = [_MAGIC, struct.pack('<I', len(told)), told]
    for x in features.values():
        x = x.detach().to('cpu', dtype).contiguous().reshape(-1)
        parts.append(x.view(torch.uint8).numpy().tobytes())
    data = b''.join(parts)
    return data + struct.pack('<I', zlib.crc32(data))


def _unpack(key: str,
            data: bytearray) -> Optional[Tuple[Features, List[float]]]:
    """Read what :func:`_pack` wrote, without a copy; None if damaged."""
    start = len(_MAGIC) + 4
    if len(data) < start + 4 or not data.startswith(_MAGIC):
        return None
    if struct.pack('<I', zlib.crc32(memoryview(data)[:-4])) != data[-4:]:
        return None
    stop = start + struct.unpack('<I', data[len(_MAGIC):start])[0]
    header = json.loads(data[start:stop])
    if header['key'] != key:
        return None
    features, stored = {}, getattr(torch, header['stored'])
    for name, shape, dtype in header['tensors']:
        size = int(np.prod(shape, dtype=np.int64))
        x = torch.frombuffer(data, dtype=stored, count=size, offset=stop) \
            if size else torch.zeros(0, dtype=stored)
        stop += size * stored.itemsize
        features[name] = x.reshape(shape).to(getattr(torch, dtype))
    return features, header['marks']


def _name(dtype: torch.dtype) -> str:
    return str(dtype)[len('torch.'):]
