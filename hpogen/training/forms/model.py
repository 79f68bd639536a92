"""Which network a task trains, and which of its options the search space may have; without torch.

Part of `task.py`, the YAML's `model:`; `models/build.py` builds what it says. Only a value to check
needs the builder itself, and with it torch.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from itertools import islice, product
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError, model_validator

from hpogen import plugins
from hpogen.errors import quoted
from hpogen.training.forms.hyperparameters import Hyperparameters
from hpogen.training.forms.inputs import Inputs
from hpogen.training.forms.options import Optioned, check_options, registered
from hpogen.training.forms.tokens import Tokens
from hpogen.training.models.catalog import MODELS, OWN, RTDL, TABULAR, TOKEN_MODELS
from hpogen.trial import Config, Value

TRIED = 64  # combinations of options, at most, in search of the largest network
LARGEST, LARGE_SIZE = {"depth": 10_000}, 1_000_000  # of an option
LARGE = Inputs((3, 256, 256), 10)  # for options where the images are not known yet
LARGE_TEXT = Inputs((512,), 10, "classes", "int64", Tokens(1000))  # and where the text is not


class Model(Optioned):
    """Which network; further keys are options of its builder."""

    name: Annotated[str, AfterValidator(lambda name: registered(name, plugins.models))]
    """One of `hpogen list models`, `torchvision/NAME`, or the name of a plug-in's."""

    @model_validator(mode="after")
    def _checked(self) -> Model:
        if self.name in TABULAR and importlib.util.find_spec(RTDL) is None:
            raise ValueError(f"model {self.name!r} needs {RTDL}: pip install 'hpogen[tables]'")
        check_options(self, self.name, plugins.models)
        for name, value in self.options().items():
            self._check_size(name, value)
        return self

    def searchable(self) -> frozenset[str]:
        """The options that may be hyper-parameters; a name that training itself has is not one."""
        return frozenset(self._declared()) - frozenset(Hyperparameters.model_fields)

    def options_with(self, config: Config) -> dict[str, Any]:
        """The builder's options in a trial: the task's, with the trial's values laid over them.

        What else the configuration has is left out.
        """
        chosen = self.searchable() & config.keys()
        return {**self.options(), **{name: config[name] for name in chosen}}

    @plugins.scoped
    def check_value(self, name: str, value: Value, data: Inputs | None) -> None:
        """Raise ValueError, in one line, for a value that the option `name` cannot come to have.

        `data` is what the network is built for, None where that is not known.
        """
        from hpogen.training.models.build import unfit

        if name in (fixed := self._fixed()):
            raise ValueError(
                f"{name} is searched, but task.model sets it to {quoted(fixed[name])}: drop one of "
                "them"
            )
        annotation, _ = self._declared()[name]
        config = ConfigDict(strict=True, arbitrary_types_allowed=True)
        try:
            TypeAdapter(annotation, config=config).validate_python(value)
        except ValidationError as error:
            said = error.errors(include_url=False)[0]["msg"].removeprefix("Input should be ")
            raise ValueError(f"{name} may come to be {quoted(value)}, expected {said}") from None
        self._check_size(name, value)
        unknown = LARGE_TEXT if self.name in TOKEN_MODELS else LARGE
        if reason := unfit(self.name, {**self.options(), name: value}, data or unknown):
            raise ValueError(f"{name} may come to be {quoted(value)}: {reason}")

    def weights_bytes(self, data: Inputs, values: Mapping[str, Sequence[Value]]) -> int | None:
        """Of the largest network for such inputs; None where it cannot be told without numbers.

        `values` are those that hyper-parameters may have. A network of the table is looked up, any
        other is built without numbers.
        """
        searched = sorted(self.searchable() & values.keys())
        known = MODELS[self.name].parameters if self.name in MODELS else {}
        shape = tuple(data.in_shape)
        count = known.get("×".join(map(str, [*shape[1:], *shape[:1]])))
        if count is not None and data.outputs == 10 and not searched and not self.options():
            return 4 * count
        from hpogen.training.models.build import weights_bytes

        tried = islice(product(*(values[name] for name in searched)), TRIED)
        options = [{**self.options(), **dict(zip(searched, one, strict=True))} for one in tried]
        sizes = [weights_bytes(self.name, one, data) for one in options]
        return None if None in sizes else max(filter(None, sizes), default=None)

    def check_inputs(self, data: Inputs, name: str) -> None:
        """Raise ValueError when the model cannot take such inputs, of the data set `name`.

        A built-in model with its own defaults is looked up, any other is built without numbers; of
        a plug-in's model training will tell.
        """
        if plugins.models.is_plugin(self.name):
            return
        shape: Any = data.in_shape
        if len(shape) == 3 and self.name in MODELS and not self.options():
            least = MODELS[self.name].smallest
            if min(shape[1:]) < least:
                raise ValueError(
                    f"model {self.name!r} needs images of at least {least}×{least}, data set "
                    f"{name!r} has {shape[1]}×{shape[2]}"
                )
            return
        from hpogen.training.models.build import unfit

        if reason := unfit(self.name, self.options(), data):
            raise ValueError(f"data set {name!r}: {reason}")

    def _check_size(self, name: str, value: object) -> None:
        """Raise ValueError for a size that not even the outline of a network could be made in."""
        most = LARGEST.get(name, LARGE_SIZE)
        if (
            isinstance(value, int | float)
            and value > most
            and not plugins.models.is_plugin(self.name)
        ):
            raise ValueError(f"{name}: got {value}, expected at most {most}")

    @plugins.scoped
    def _declared(self) -> Mapping[str, tuple[Any, Any]]:
        """The options of the builder: name → (annotation, default or ...)."""
        if self.name in OWN:
            defaults = OWN[self.name].options
            return {name: (type(default), default) for name, default in defaults.items()}
        return plugins.options_of(plugins.models.get(self.name), without=("name",))

    def _fixed(self) -> dict[str, Any]:
        """The options that `model:` sets to another value than the default.

        Defaults are filled in beside an option that is given, and cannot be told from choices.
        """
        declared = self._declared()
        return {name: v for name, v in self.options().items() if v != declared[name][1]}
