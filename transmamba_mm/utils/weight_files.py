"""Weights in files and folders, read when they are asked for.

A name is looked up without reading the tensor, and a tensor is mapped from
the disk rather than copied: of a file of many gigabytes only what is used
takes memory.
"""
import json
import os
import os.path as osp
from abc import ABC, abstractmethod
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple, Union

import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor

from transmamba_mm.compat import load_from_local
from .state_dict import unwrap_state_dict

#: Files that a folder is searched for, the first one counts.
FOLDER_FILES = ('model.safetensors', 'model.safetensors.index.json',
                'open_clip_model.safetensors', 'pytorch_model.bin',
                'pytorch_model.bin.index.json', 'open_clip_pytorch_model.bin')
SUFFIXES = ('.safetensors', '.pth', '.pt', '.bin')
_INDEX = '.index.json'


class WeightFile(Mapping):
    """Weights by name, read when they are asked for.

    Use :func:`open_weights`.

    Args:
        path (str): File or folder, for messages.
        parts (Dict[str, Part]): Name of each tensor to the file it is in.
        configs (Dict[str, dict], optional): The JSON files beside it, by
            name. Defaults to None.

    Attributes:
        path (str): See above.
        configs (Dict[str, dict]): 'config.json' and the like, as far as the
            folder has them.
    """

    def __init__(self,
                 path: str,
                 parts: Dict[str, 'Part'],
                 configs: Optional[Dict[str, dict]] = None) -> None:
        self.path = path
        self.configs = configs or {}
        self._parts = parts

    def __getitem__(self, name: str) -> Tensor:
        return self._parts[name].tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def shape(self, name: str) -> Tuple[int, ...]:
        """Tell a tensor's shape without reading it.

        Args:
            name (str): Its name.

        Returns:
            Tuple[int, ...]: The shape.
        """
        return self._parts[name].shape(name)

    def dtype(self, name: str) -> str:
        """Tell a tensor's type without reading it.

        Args:
            name (str): Its name.

        Returns:
            str: As safetensors names it, such as 'F32', 'BF16' or 'I8'.
        """
        return self._parts[name].dtype(name)


class Part(ABC):
    """One file of weights."""

    @abstractmethod
    def names(self) -> List[str]:
        """List the tensors."""

    @abstractmethod
    def tensor(self, name: str) -> Tensor:
        """Read a tensor."""

    @abstractmethod
    def shape(self, name: str) -> Tuple[int, ...]:
        """Tell a tensor's shape."""

    @abstractmethod
    def dtype(self, name: str) -> str:
        """Tell a tensor's type as safetensors names it."""


_DTYPES = {
    torch.float64: 'F64',
    torch.float32: 'F32',
    torch.float16: 'F16',
    torch.bfloat16: 'BF16',
    torch.bool: 'BOOL',
    torch.uint8: 'U8',
    torch.int8: 'I8',
    torch.int16: 'I16',
    torch.int32: 'I32',
    torch.int64: 'I64',
}


class _Tensors(Part):
    """Tensors that PyTorch holds, or has mapped."""

    def __init__(self, state: Mapping) -> None:
        self.state = state

    def names(self) -> List[str]:
        return list(self.state)

    def tensor(self, name: str) -> Tensor:
        return self.state[name]

    def shape(self, name: str) -> Tuple[int, ...]:
        return tuple(self.state[name].shape)

    def dtype(self, name: str) -> str:
        dtype = self.state[name].dtype
        return _DTYPES.get(dtype, str(dtype))


class _Safetensors(Part):
    """A ``.safetensors`` file."""

    def __init__(self, path: str) -> None:
        try:
            from safetensors import SafetensorError, safe_open
        except ImportError as error:
            raise ImportError(
                f"Reading '{path}' needs a package that is not installed. "
                'Run: pip install safetensors') from error
        try:
            self.file = safe_open(path, framework='pt', device='cpu')
        except SafetensorError as error:
            raise ValueError(
                f"'{path}' is truncated, damaged or not a safetensors file "
                f'({error}). Copy or download it again.') from error

    def names(self) -> List[str]:
        return list(self.file.keys())

    def tensor(self, name: str) -> Tensor:
        return self.file.get_tensor(name)

    def shape(self, name: str) -> Tuple[int, ...]:
        return tuple(self.file.get_slice(name).get_shape())

    def dtype(self, name: str) -> str:
        return self.file.get_slice(name).get_dtype()


class _Shard(Part):
    """One of several files, opened when it is first asked."""

    def __init__(self, path: str, index: str) -> None:
        self.path = path
        self.index = index
        self._part: Optional[Part] = None

    def _open(self, name: str) -> Part:
        if self._part is None:
            self._part = _open_file(self.path)
            self._names = set(self._part.names())
        if name not in self._names:
            raise ValueError(
                f"'{self.index}' says that the tensor '{name}' is in "
                f"'{osp.basename(self.path)}', which does not hold it. Copy "
                'or download the folder again.')
        return self._part

    def names(self) -> List[str]:
        raise NotImplementedError('The index names the tensors of a shard.')

    def tensor(self, name: str) -> Tensor:
        return self._open(name).tensor(name)

    def shape(self, name: str) -> Tuple[int, ...]:
        return self._open(name).shape(name)

    def dtype(self, name: str) -> str:
        return self._open(name).dtype(name)


def open_weights(source: Union[str, os.PathLike, Mapping]) -> WeightFile:
    """Open weights without reading them.

    Args:
        source (str | Path | Mapping): A ``.pth``, ``.bin`` or
            ``.safetensors`` file, the index of a file in shards, a folder as
            Hugging Face writes it or with one such file, a URL of a file of
            PyTorch, or tensors by name.

    Returns:
        WeightFile: The tensors by name.

    Raises:
        FileNotFoundError: If there is no such file, or a shard is missing.
        ValueError: If a file is damaged, would run code when loaded, is of
            an unknown kind, or if a folder leaves a choice.
    """
    if isinstance(source, WeightFile):
        return source
    if isinstance(source, Mapping):
        part = _Tensors(source)
        return WeightFile('', dict.fromkeys(part.names(), part))
    path = os.fspath(source)
    if '://' in path:
        part = _Tensors(
            unwrap_state_dict(CheckpointLoader.load_checkpoint(path, 'cpu')))
        return WeightFile(path, dict.fromkeys(part.names(), part))
    path = osp.expanduser(path)
    file = _find_file(path) if osp.isdir(path) else path
    if not osp.isfile(file):
        raise FileNotFoundError(
            f"There are no weights at '{path}'. Of a model of the Hugging "
            'Face hub, give the folder that it was downloaded to.')
    configs = _read_configs(osp.dirname(file)) if osp.isdir(path) or \
        osp.basename(file) in FOLDER_FILES else {}
    if file.endswith(_INDEX):
        return WeightFile(path, _open_shards(file), configs)
    part = _open_file(file)
    return WeightFile(path, dict.fromkeys(part.names(), part), configs)


def _find_file(folder: str) -> str:
    """Choose the file of weights in a folder."""
    for name in FOLDER_FILES:
        if osp.isfile(osp.join(folder, name)):
            return osp.join(folder, name)
    names = sorted(n for n in os.listdir(folder) if n.endswith(SUFFIXES))
    if not names and any(n.endswith('.gguf') for n in os.listdir(folder)):
        raise ValueError(f"'{folder}' holds GGUF files, which are {_NO_GGUF}")
    if not names:
        raise FileNotFoundError(
            f"The folder '{folder}' holds no weights: there must be one of "
            f'{FOLDER_FILES}, or one file that ends in one of {SUFFIXES}.')
    if len(names) > 1:
        raise ValueError(f"The folder '{folder}' holds several files of "
                         f'weights, {names[:6]}: name one of them.')
    return osp.join(folder, names[0])


_NO_GGUF = ('quantised for llama.cpp: give the file from before the '
            'conversion, in .safetensors or .pth.')


def _open_file(path: str) -> Part:
    """Open a file by its first bytes, whatever it is called."""
    with open(path, 'rb') as file:
        start = file.read(9)
    if start[:4] == b'GGUF':
        raise ValueError(f"'{path}' is {_NO_GGUF}")
    # eight bytes give the size of a header in JSON
    if start[8:] == b'{' or path.endswith('.safetensors'):
        return _Safetensors(path)
    try:
        content = load_from_local(path, 'cpu', mmap=True)
    except RuntimeError as error:
        if 'TorchScript' not in str(error):
            raise
        raise ValueError(
            f"'{path}' is a TorchScript archive, as OpenAI's CLIP files are; "
            'loading it can run code. If you trust its author, save its '
            "weights once with torch.save(torch.jit.load(path, map_location='"
            "cpu').state_dict(), new_path), and give that file.") from error
    return _Tensors(unwrap_state_dict(content))


def _open_shards(index: str) -> Dict[str, Part]:
    """Read which shard holds which tensor."""
    content = _read_json(index)
    names = content.get('weight_map') if isinstance(content, dict) else None
    if not isinstance(names, dict) or not names:
        raise ValueError(f"'{index}' names no shards: it needs a dict "
                         "'weight_map' from tensors to files.")
    folder, shards = osp.dirname(index), {}
    for name in dict.fromkeys(names.values()):
        if not isinstance(name, str) or name in ('', '.', '..') or \
                '/' in name or '\\' in name:
            raise ValueError(f"'{index}' names the shard {name!r}, which is "
                             'no file of its own folder; it is refused.')
        if not osp.isfile(osp.join(folder, name)):
            raise FileNotFoundError(
                f"'{osp.basename(index)}' names the shard '{name}', which is "
                f"not in '{folder}'. Copy or download it, too.")
        shards[name] = _Shard(osp.join(folder, name), index)
    return {tensor: shards[name] for tensor, name in names.items()}


def _read_configs(folder: str) -> Dict[str, dict]:
    """Read the descriptions that a folder has."""
    out = {}
    for name in ('config.json', 'preprocessor_config.json',
                 'open_clip_config.json'):
        if osp.isfile(osp.join(folder, name)):
            content = _read_json(osp.join(folder, name))
            if isinstance(content, dict):
                out[name] = content
    return out


def _read_json(path: str) -> Any:
    try:
        with open(path, encoding='utf-8') as file:
            return json.load(file)
    except ValueError as error:
        raise ValueError(
            f"'{path}' is truncated or no JSON: {error}.") from error
