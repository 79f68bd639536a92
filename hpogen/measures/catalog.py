"""The table of the built-in measures, which `plugins.measures` reads; naming one imports no torch.

Each family has a file of rows: `catalog_head.py`, `catalog_network.py`, `catalog_ablation.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from hpogen.measures.catalog_ablation import ABLATION
from hpogen.measures.catalog_head import HEAD, STEP
from hpogen.measures.catalog_network import NETWORK
from hpogen.plugins import Measure

DECAY: Mapping[str, float] = {"tse_ema": 0.999}
"""What a running sum is multiplied by before an epoch's term is added; 1 where nothing is said."""

MEASURES: Mapping[str, Measure] = {row.name: row for row in (*HEAD, *STEP, *NETWORK, *ABLATION)}
