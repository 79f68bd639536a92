"""Where Hydra looks for `hydra/sweeper=hpogen`; what it does is in `hpogen.integrations.hydra`.

An installed hpogen has this file in the package `hydra_plugins`, which every Hydra app reads when
it starts. So it is light: the sweeper is imported where it is asked for.
"""

from __future__ import annotations

from typing import Any

from hydra.plugins.sweeper import Sweeper

from hpogen.integrations.hydra_options import store

store()


class HpogenSweeper(Sweeper):
    """Stands for the sweeper until one is made."""

    def __new__(cls, **options: Any) -> Any:
        from hpogen.integrations.hydra import HpogenSweeper as Real

        return Real(**options)

    def setup(self, **_: Any) -> None: ...

    def sweep(self, arguments: Any) -> None: ...
