"""What holds a resource."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


class Backend(Protocol):
    """Life of anything that holds a resource. `load` twice and `close` twice are harmless."""

    def load(self) -> None: ...

    def close(self) -> None: ...

    def info(self) -> dict[str, Any]:
        """What it is and how it is, as JSON; raises `Unavailable` with the reason when it cannot work now."""
        ...


class Removable(Protocol):
    def remove(self) -> None:
        """Delete all that it holds; it is closed afterwards."""
        ...
