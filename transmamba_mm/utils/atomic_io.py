import os
import os.path as osp
from pathlib import Path
from typing import Container, List, Union

from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import print_log

PARTIAL_SUFFIX = '.partial-write'


def atomic_write(path: Union[str, Path], data: bytes) -> None:
    """Write a file so that it is, at any moment, the old one or the new one.

    The bytes go to a temporary name in the same folder, are forced to the
    disk, and then take the place of the file in one step.

    Args:
        path (str | Path): The file to write; its folder is made if missing.
        data (bytes): The whole content.

    Raises:
        OSError: The disk is full or the folder cannot be written. The old
            file is then left as it was.
    """
    partial = f'{path}{PARTIAL_SUFFIX}'
    folder = osp.dirname(osp.abspath(path))
    os.makedirs(folder, exist_ok=True)
    try:
        with open(partial, 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        if osp.exists(partial):
            os.remove(partial)
        raise
    _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    """Force a renaming to the disk, where the system can do it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def remove_partial_files(folder: str) -> List[str]:
    """Delete what a killed :func:`atomic_write` left behind.

    Args:
        folder (str): The folder to clean; sub-folders are left alone.

    Returns:
        List[str]: Names of the files that were deleted.
    """
    if not osp.isdir(folder):
        return []
    names = [n for n in os.listdir(folder) if n.endswith(PARTIAL_SUFFIX)]
    for name in names:
        os.remove(osp.join(folder, name))
    if names:
        print_log(
            f'removed files half written by a killed run: {names}',
            logger='current')
    return names


class AtomicLocalBackend(LocalBackend):
    """A local file backend that never leaves its user without a whole file.

    ``put`` is atomic. ``remove`` only notes the file, and ``remove_outdated``
    deletes what was noted: code that removes the old file and then writes the
    new one, as MMEngine's ``CheckpointHook`` does, becomes safe.
    """

    def __init__(self) -> None:
        self.outdated: List[str] = []

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        """Write ``obj`` to ``filepath`` atomically.

        Args:
            obj (bytes): The whole content.
            filepath (str | Path): The file to write.
        """
        atomic_write(filepath, obj)

    def remove(self, filepath: Union[str, Path]) -> None:
        """Note a file for :meth:`remove_outdated`.

        Args:
            filepath (str | Path): The file to delete later.
        """
        self.outdated.append(str(filepath))

    def remove_outdated(self, keep: Container[str] = ()) -> None:
        """Delete the noted files.

        Args:
            keep (Container[str]): Paths that are in use again. Defaults to ().
        """
        for path in self.outdated:
            if path not in keep and osp.isfile(path):
                super().remove(path)
        self.outdated.clear()


register_backend(
    AtomicLocalBackend.__name__, backend=AtomicLocalBackend, force=True)
