"""What every section of a configuration is made of."""

from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+.-]*$")]


class Section(pydantic.BaseModel):
    """A section of the configuration: immutable, and an unknown key is an error."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, content: Any) -> Any:
        """YAML reads yes, no, on, off as truth values, which would pass as the numbers 1 and 0."""
        for key, value in content.items() if isinstance(content, dict) else ():
            field = cls.model_fields.get(str(key))
            if isinstance(value, bool) and field is not None and field.annotation is not bool:
                raise ValueError(f"{key} is {value}: YAML's true, yes, on, false, no, off are not meant here")
        return content


class Anneal(Section):
    """A width that shrinks geometrically over the epochs, so that the optimum found is that of hard cuts."""

    initial: float = Field(gt=0, description="width at the first epoch, in the unit of the quantity")
    final: float = Field(
        gt=0, description="width from the epoch `optimise.anneal_fraction` on; at most `initial`"
    )

    @pydantic.model_validator(mode="after")
    def _shrinks(self) -> "Anneal":
        if self.final > self.initial:
            raise ValueError(f"final {self.final} is larger than initial {self.initial}; widths only shrink")
        return self


class Bandwidth(Anneal):
    """The width of a histogram's kernel, in the unit of the values or as a fraction of the bins."""

    unit: Literal["value", "bin"] = Field(
        default="value",
        description="`bin`: both are fractions of the bin width, at each edge of the narrower of its two bins",
    )
