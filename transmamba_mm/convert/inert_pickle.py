import functools
import pickle
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any, Callable, Dict, List

import torch
from torch import Tensor


class InertType(type):
    """Class of :class:`Inert` classes; a pickle cannot change them."""

    def __setattr__(cls, name: str, value: Any) -> None:
        raise TypeError('a placeholder class cannot be changed')


class Inert(metaclass=InertType):
    """Stand in for an object whose class is not loaded.

    It takes whatever a pickle does to it and does nothing: neither the class
    that the file names nor any code of that class is imported or called. The
    attributes that the file gives it are kept as plain data in ``state``, its
    entries, if it stands for a dict, in ``entries``.
    """

    __slots__ = ('state', 'entries')

    def __new__(cls, *args: Any, **kwargs: Any) -> 'Inert':
        self = object.__new__(cls)
        self.state = None
        self.entries = {}
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value

    def append(self, item: Any) -> None:
        """Ignore an item that a pickle adds to a list-like object."""

    def extend(self, items: Any) -> None:
        """Ignore items that a pickle adds to a list-like object."""

    def add(self, item: Any) -> None:
        """Ignore an item that a pickle adds to a set-like object."""


class _Call:
    """A function that a pickle may call but cannot change."""

    __slots__ = ('_function', )

    def __init__(self, function: Callable) -> None:
        object.__setattr__(self, '_function', function)

    def __setattr__(self, name: str, value: Any) -> None:
        raise TypeError('the loader cannot be changed')

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)


def _tensor(storage: Any, offset: int, size: tuple, stride: tuple, *_:
            Any) -> Tensor:
    """Rebuild a tensor; hooks and the like are dropped."""
    if not isinstance(storage, torch.storage.TypedStorage):
        raise pickle.UnpicklingError('a tensor without a storage')
    tensor = torch.empty(0, dtype=storage.dtype)
    return tensor.set_(storage.untyped(), offset, tuple(size), tuple(stride))


def _parameter(data: Any, *_: Any) -> Tensor:
    """Give the tensor inside a parameter."""
    if not isinstance(data, Tensor):
        raise pickle.UnpicklingError('a parameter without a tensor')
    return data


def _subclass(function: Any, _type: Any, args: tuple, *_: Any) -> Tensor:
    """Rebuild a tensor that had attributes; they are dropped."""
    if not isinstance(function, _Call):
        raise pickle.UnpicklingError('a tensor of an unknown kind')
    return _parameter(function(*args))


def _bytes(text: str, encoding: str = 'latin1') -> bytes:
    """Give bytes as pickle protocol 2 stores them."""
    return text.encode('latin1')


@functools.lru_cache(maxsize=1)
def _known_globals() -> Dict[str, Any]:
    """List all that a file may name and get: containers and tensors."""
    return {
        'collections.OrderedDict': OrderedDict,
        '_codecs.encode': _Call(_bytes),
        'torch._utils._rebuild_tensor': _Call(_tensor),
        'torch._utils._rebuild_tensor_v2': _Call(_tensor),
        'torch._utils._rebuild_parameter': _Call(_parameter),
        'torch._utils._rebuild_parameter_with_state': _Call(_parameter),
        'torch._tensor._rebuild_from_type_v2': _Call(_subclass),
    }


def inert_pickle(ignored: List[str]) -> SimpleNamespace:
    """Make a pickle module for ``torch.load`` that loads data only.

    Tensors, plain values, lists and dicts are loaded. Every other class or
    function that the file names becomes an :class:`Inert` placeholder.

    Args:
        ignored (List[str]): Receives the names of the placeholders.

    Returns:
        SimpleNamespace: What ``torch.load`` takes as ``pickle_module``.
    """

    class Unpickler(pickle.Unpickler):
        """Unpickler that never looks a name up."""

        def find_class(self, module: str, name: str) -> Any:
            path = f'{module}.{name}'
            if path in _known_globals():
                return _known_globals()[path]
            if path not in ignored:
                ignored.append(path)
            return InertType(name, (Inert, ), dict(__slots__=()))

    def load(file: Any, **kwargs: Any) -> Any:
        return Unpickler(file, **kwargs).load()

    return SimpleNamespace(
        __name__='inert_pickle',
        Unpickler=Unpickler,
        UnpicklingError=pickle.UnpicklingError,
        load=load)
