"""The site, built once for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from documentation.site import build


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the site was built, without a warning."""
    folder = tmp_path_factory.mktemp("site")
    build(folder)
    return folder
