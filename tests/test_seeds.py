import torch

from paramdiff.seeds import generator, mix, sample_normal, seeded


def test_keys_decide_and_nothing_else():
    assert mix("fit", 0, 1) == mix("fit", 0, 1)
    assert len({mix("fit", 0, step) for step in range(1000)}) == 1000
    assert mix("fit", 1) != mix("fit", "1")
    assert 0 <= mix("x") < 2**63


def test_a_key_gives_the_same_stream_on_every_machine():
    """The value is part of the contract: seeds in old run folders must keep their meaning."""
    assert mix("fit", 0) == 2323714976992624595
    assert torch.equal(
        torch.randn(3, generator=generator("a", 1)), torch.randn(3, generator=generator("a", 1))
    )


def test_sample_i_is_the_same_for_every_n():
    few, many = sample_normal(range(3), 5, "s", 0), sample_normal(range(10), 5, "s", 0)
    assert torch.equal(few, many[:3])
    assert torch.equal(sample_normal([7], 5, "s", 0)[0], many[7])
    assert not torch.equal(many[0], many[1])


def test_the_global_generator_is_left_as_it_was():
    torch.manual_seed(3)
    expected = torch.randn(2)
    torch.manual_seed(3)
    with seeded("init", 0):
        inside = torch.randn(2)
    assert torch.equal(torch.randn(2), expected)
    with seeded("init", 0):
        assert torch.equal(torch.randn(2), inside)
