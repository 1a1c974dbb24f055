import pytest

from paramdiff.errors import ConfigError, ParamdiffError, check_choice, check_range, near


def test_a_message_is_one_line_of_three_parts():
    error = ParamdiffError("a.pt holds\n nothing", expected="tensors", remedy="save a state dict")
    assert str(error) == "a.pt holds nothing; expected tensors; save a state dict"
    assert error.exit_code == 2


def test_a_key_is_seen_from_above():
    error = ConfigError("k", "-1 is out of range", expected="at least 2").under("zoo")
    assert str(error) == "zoo.k: -1 is out of range; expected at least 2"
    assert error.under("run").key == "run.zoo.k"


@pytest.mark.parametrize(
    ("bounds", "good", "bad", "wanted"),
    [
        ({"least": 1}, 1, 0, "at least 1"),
        ({"above": 0}, 0.1, 0, "more than 0"),
        ({"above": 0, "most": 1}, 1, 1.5, "more than 0 and at most 1"),
        ({"least": 0, "below": 1}, 0, 1, "at least 0 and less than 1"),
    ],
)
def test_ranges(bounds, good, bad, wanted):
    check_range("lr", good, **bounds)
    with pytest.raises(ConfigError, match=f"lr: {bad!r} is out of range; expected {wanted}"):
        check_range("lr", bad, **bounds)


def test_nan_is_in_no_range():
    with pytest.raises(ConfigError, match="nan is out of range"):
        check_range("lr", float("nan"), least=0)


def test_choices_show_near_matches():
    with pytest.raises(
        ConfigError, match="optimizer: 'adm' is not known; expected one of sgd, adam; did you mean adam"
    ):
        check_choice("optimizer", "adm", ["sgd", "adam"])
    assert near("zzz", ["a", "b"]) == "choose from a, b"
