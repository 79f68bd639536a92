"""The form of `track`: which programs are shown the study while it runs.

`form.py` has the other keys; `export/tracking.py` writes to them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from annotated_types import Len
from pydantic import field_validator, model_validator

from hpogen.errors import quoted
from hpogen.record.stores import is_url
from hpogen.spec.strict import Form

SERVERS = ("http", "https")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
PROJECT = re.compile(r"[^/\\#?%:\x00-\x1f]{1,128}")
"""What W&B takes as the name of a project."""
PACKAGES = ("mlflow", "wandb")
"""The trackers with a package, and an extra, of that name; TensorBoard's comes with hpogen."""


class Track(Form):
    """Programs that show the study while it runs, any of them together.

    One that cannot be reached never stops the study.
    """

    mlflow: str | None = None
    """The URL of an MLflow server, or of a database: an experiment of the study's name."""
    wandb: Annotated[str, Len(1)] | None = None
    """A project of Weights & Biases, `WANDB_MODE=offline` included: a run per trial."""
    tensorboard: bool = False
    """TensorBoard's event files in the study's folder, a run per trial."""

    @field_validator("mlflow")
    @classmethod
    def _is_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        scheme, _, rest = url.partition("://")
        known = is_url(url) and scheme.partition("+")[0] in (*SERVERS, *DATABASES)
        if not known or not (rest.partition("/")[0] or scheme.startswith("sqlite")):
            raise ValueError(
                f"got {quoted(url)}, expected the URL of a server, http://HOST:5000, or of a "
                "database, sqlite:///mlflow.db"
            )
        _check_no_password(url)
        return url

    @field_validator("wandb")
    @classmethod
    def _is_project(cls, name: str | None) -> str | None:
        if name is not None and not PROJECT.fullmatch(name):
            raise ValueError(
                f"got {quoted(name)}, expected the name of a project: at most 128 characters, and "
                "none of / \\ # ? % :"
            )
        return name

    @model_validator(mode="after")
    def _at_least_one(self) -> Track:
        if not self.names:
            raise ValueError("names no tracker: expected mlflow, wandb or tensorboard")
        return self

    @property
    def names(self) -> list[str]:
        """The trackers that are asked for."""
        return [name for name, given in self if given]

    @property
    def packages(self) -> list[str]:
        """What they need, which is what an extra of that name brings."""
        return [name for name in self.names if name in PACKAGES]

    def record(self) -> Mapping[str, Any]:
        """Without those that are not asked for."""
        return self.model_dump(include={*self.names})


def _check_no_password(url: str) -> None:
    """The ledger keeps the URL, and people hand ledgers on."""
    try:
        secret = urlsplit(url).password
    except ValueError as error:
        raise ValueError(f"got a URL that cannot be read: {error}") from None
    if secret:
        raise ValueError(
            "got a URL with a password, which the ledger would keep: set MLFLOW_TRACKING_USERNAME "
            "and MLFLOW_TRACKING_PASSWORD instead, or PGPASSWORD for PostgreSQL"
        )
