from typing import Any, Dict

import torch


class TextTokens(dict):
    """Token tensors of a text, which cross processes by value.

    PyTorch hands each tensor to another process in a file of its own; a big
    batch of texts would use up the files that a process may open.
    """

    def __reduce__(self) -> tuple:
        return _rebuild, ({name: t.numpy() for name, t in self.items()}, )


def _rebuild(arrays: Dict[str, Any]) -> TextTokens:
    return TextTokens({
        name: torch.from_numpy(array)
        for name, array in arrays.items()
    })
