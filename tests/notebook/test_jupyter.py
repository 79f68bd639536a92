"""A search in a real notebook, with a real kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

CELLS = (
    """
import hpogen, time
scale = 0.3
def train(trial):
    for epoch in trial.epochs():
        time.sleep(0.05)
        yield {"val_loss": (trial.config["lr"] - scale) ** 2 + 1 / (epoch + 1)}
result = hpogen.search(train, {"lr": hpogen.Float(1e-4, 1, log=True)}, trials=6, epochs=2,
                       workers=WORKERS, directory="runs/notebook")
result
""",
    "result.best",
    "result.plot()",
    'hpogen.search(train, {"lr": 3}, trials=2, searcher="nobody", directory="runs/other")',
)


def executed(tmp_path: Path, workers: int) -> list[Any]:
    cells = [nbformat.v4.new_code_cell(c.replace("WORKERS", str(workers))) for c in CELLS]
    cells[-1].metadata["tags"] = ["raises-exception"]
    notebook = nbformat.v4.new_notebook(cells=cells)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
    return [cell.outputs for cell in notebook.cells]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_notebook_searches_with_what_its_cells_define(workers: int, tmp_path: Path) -> None:
    searched, best, plot, refused = executed(tmp_path, workers)
    live = [o for o in searched if "application/vnd.jupyter.widget-view+json" in o.get("data", {})]
    assert live, "the table of the running study"
    assert "6 of 6 trials told" in searched[-1]["data"]["text/html"]
    assert "<td>lr</td>" in best[-1]["data"]["text/html"]
    assert plot[-1]["data"]["image/png"]
    assert refused[-1]["traceback"] == ["UserError: " + refused[-1]["evalue"]]
    assert "nobody" in refused[-1]["evalue"]
