"""The registry of families: a new one is one file here and one line below."""

from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.families import bert, vit
from instatune_deploy.supernet.families.base import Family

FAMILIES: tuple[Family, ...] = (bert.FAMILY, vit.FAMILY)


def family_of(model_type: str, where: str) -> Family:
    """The family of a Hugging Face ``model_type``; ``BadInput`` names ``where`` and what is supported."""
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    known = ", ".join(model_type for family in FAMILIES for model_type in family.model_types)
    raise BadInput(f"{where}: model type '{model_type}' is not supported; supported are: {known}")
