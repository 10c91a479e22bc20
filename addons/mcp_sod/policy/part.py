"""What all parts of the policy's shape stand on."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mcp_sod.policy.patterns import detector


def _compiles(source: str) -> str:
    detector("", source)
    return source


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Regex = Annotated[str, AfterValidator(_compiles)]


class Part(BaseModel):
    """Base of every part of the policy: unknown keys are errors, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
