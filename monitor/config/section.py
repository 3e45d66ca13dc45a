"""What the sections are made of: the base of all, and types that several use."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from monitor.judging.prompts import PROMPTS

Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0)]


def over_http(url: str) -> str:
    """The URL, where it is one over HTTP; raises ValueError."""
    if not re.match(r"https?://[^\s/]", url):
        raise ValueError("URL should start with http:// or https:// and a host")
    return url


def _known_prompt(name: str) -> str:
    if name not in PROMPTS:
        raise ValueError(f"Input should be one of {', '.join(PROMPTS)}")
    return name


HttpUrl = Annotated[str, AfterValidator(over_http)]
Prompt = Annotated[str, AfterValidator(_known_prompt)]


class Section(BaseModel):
    """One section of the settings: closed, frozen, documented field by field."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)
