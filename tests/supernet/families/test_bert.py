from __future__ import annotations

import pytest

from instatune_deploy.supernet.families import family_of
from instatune_deploy.supernet.families.bert import FAMILY


@pytest.mark.parametrize("model_type", ["bert", "roberta", "xlm-roberta", "camembert", "electra"])
def test_family_of(model_type: str) -> None:
    assert family_of(model_type, "here") is FAMILY
