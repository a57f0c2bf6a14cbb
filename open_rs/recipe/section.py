"""What every group of settings has in common."""

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    """A frozen group of settings; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def no_switch_for_a_number(cls, settings: Any) -> Any:
        """pydantic would read true as 1."""
        for key, value in settings.items() if isinstance(settings, dict) else ():
            field = cls.model_fields.get(key)
            if field is None or not isinstance(value, bool):
                continue
            if bool not in (field.annotation, *get_args(field.annotation)):
                raise ValueError(f"{key} should not be true or false")
        return settings
