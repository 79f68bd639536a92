"""A torchvision whose build is for another build of torch: one line, whatever needs it first."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpogen import plugins
from hpogen.errors import UserError
from hpogen.training.data.listing import listed
from hpogen.training.vision import torchvision


@pytest.fixture(autouse=True)
def misfit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is imported as torchvision does as the one of another index does."""
    package = tmp_path / "elsewhere" / "torchvision"
    package.mkdir(parents=True)
    text = 'raise RuntimeError("operator torchvision::nms does not exist")'
    (package / "__init__.py").write_text(text)
    for name in [*sys.modules]:
        if name.partition(".")[0] == "torchvision" or name.endswith(".torchvision_family"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(package.parent)
    torchvision.cache_clear()
    yield
    torchvision.cache_clear()


@pytest.mark.parametrize("what", ["a folder of images", "a data set", "a model"])
def test_both_versions_are_named_and_what_to_install(what: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        if what == "a model":
            plugins.models.check("torchvision/squeezenet1_0")
        elif what == "a data set":
            plugins.datasets.get("mnist")(tmp_path, download=False)
        else:
            listed(tmp_path, "folder")
    text = str(caught.value)
    assert "operator torchvision::nms does not exist" in text and "\n" not in text
    assert text.startswith("torchvision 0.") and " does not fit torch 2." in text
    assert "pip install --force-reinstall torch torchvision" in text
