from instatune_deploy.words import counted


def test_one_is_singular() -> None:
    assert [counted(count, "layer") for count in (0, 1, 2)] == ["0 layers", "1 layer", "2 layers"]
