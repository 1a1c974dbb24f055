"""The zoo: a matrix, a folder, and smaller and larger zoos made from it."""

import json
import shutil
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from paramdiff.errors import CheckpointError, ZooError
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.zoo.opening import open_zoo
from paramdiff.zoo.records import Record
from paramdiff.zoo.score_filter import ScoreFilter
from paramdiff.zoo.storage import verify_zoo
from paramdiff.zoo.zoo import Zoo


def make_zoo(k: int = 6, trajectory: bool = False, select: str = "norm", shift: float = 0.0) -> Zoo:
    state = {
        "fc.weight": torch.arange(6.0).reshape(2, 3),
        "norm.weight": torch.ones(4),
        "norm.bias": torch.zeros(4),
    }
    spec = ParameterSpec.from_state_dict(state, select)
    vectors = torch.arange(float(k * spec.dim)).reshape(k, spec.dim) + shift
    records = [
        Record(seed=7, step=10 * i, source=f"{i}.pt", scores={"test": i / 10, "train": 1 - i / 10})
        for i in range(k)
    ]
    return Zoo(vectors, spec, state, records, {"collector": "import", "trajectory": trajectory})


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_state_dict_joins_the_frozen_rest_with_a_vector():
    zoo = make_zoo()
    state = zoo.state_dict(zoo.vectors[2])
    assert list(state) == ["fc.weight", "norm.weight", "norm.bias"]
    assert torch.equal(state["fc.weight"], zoo.base["fc.weight"])
    assert torch.equal(state["norm.bias"], zoo.vectors[2, 4:])


def test_wrong_matrix_and_wrong_number_of_records_are_errors():
    zoo = make_zoo()
    with pytest.raises(ZooError, match=r"a matrix of shape \[6, 7\]; expected \[K, 8\], one row a member"):
        Zoo(zoo.vectors[:, :7], zoo.spec, zoo.base)
    with pytest.raises(ZooError, match="6 records of 2 members; expected one each"):
        Zoo(zoo.vectors[:2], zoo.spec, zoo.base, zoo.records)


def test_save_and_load_give_the_same_zoo(tmp_path):
    zoo = make_zoo(trajectory=True)
    zoo.save(tmp_path / "zoo")
    back = Zoo.load(tmp_path / "zoo")
    assert torch.equal(back.vectors, zoo.vectors) and same(back.base, zoo.base)
    assert (back.spec, back.records, back.about) == (zoo.spec, zoo.records, zoo.about)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["zoo"]


def test_a_zoo_of_the_version_before_has_a_collector_in_place_of_a_way(tmp_path):
    zoo = make_zoo()
    zoo.about = {"way": "subset", "task": "digits"}
    zoo.save(tmp_path / "zoo")
    assert list(Zoo.load(tmp_path / "zoo").about.items()) == [("collector", "subset"), ("task", "digits")]
    verify_zoo(tmp_path / "zoo")


def test_a_loaded_zoo_can_be_saved_over_itself_and_changed_without_touching_the_disk(tmp_path):
    make_zoo().save(tmp_path / "zoo")
    back = Zoo.load(tmp_path / "zoo")
    back.vectors[0, 0] = 99.0  # the map is private
    assert Zoo.load(tmp_path / "zoo").vectors[0, 0] == 0.0
    back[2:5].save(tmp_path / "zoo")
    assert torch.equal(Zoo.load(tmp_path / "zoo").vectors, make_zoo().vectors[2:5])
    back.save(tmp_path / "zoo")
    assert Zoo.load(tmp_path / "zoo").vectors[0, 0] == 99.0


def test_a_score_that_is_not_finite_does_not_prevent_saving(tmp_path):
    zoo = make_zoo(2)
    zoo.records[0].scores = {"train": float("nan"), "test": 0.5}
    zoo.save(tmp_path / "zoo")
    assert Zoo.load(tmp_path / "zoo").records[0].scores == {"test": 0.5}


def test_damaged_zoos_are_named(tmp_path):
    folder = tmp_path / "zoo"
    with pytest.raises(CheckpointError, match=r"manifest.json does not exist"):
        Zoo.load(folder)
    make_zoo().save(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"schema": 99}))
    with pytest.raises(ZooError, match="has zoo schema 99; expected 1"):
        Zoo.load(folder)
    (folder / "manifest.json").write_text(json.dumps({"schema": 1}))
    with pytest.raises(
        ZooError, match=r"is a damaged zoo \(.*about is missing, .*or collect or import it again"
    ):
        Zoo.load(folder)
    (folder / "manifest.json").write_text(json.dumps(manifest | {"records": manifest["records"][:2]}))
    with pytest.raises(ZooError, match="2 records of 6 members"):
        Zoo.load(folder)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    vectors = folder / "vectors.safetensors"
    vectors.write_bytes(vectors.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"vectors.safetensors is not a complete safetensors file"):
        Zoo.load(folder)


def test_a_zoo_that_was_carried_elsewhere_is_the_same_to_the_byte(tmp_path):
    make_zoo(trajectory=True).save(tmp_path / "zoo")
    shutil.copytree(tmp_path / "zoo", tmp_path / "elsewhere/copy")
    Zoo.load(tmp_path / "elsewhere/copy").save(tmp_path / "elsewhere/again")
    for folder in ("copy", "again"):
        Zoo.verify(tmp_path / "elsewhere" / folder)
        for name in ("vectors.safetensors", "base.safetensors", "manifest.json"):
            there = (tmp_path / "elsewhere" / folder / name).read_bytes()
            assert there == (tmp_path / "zoo" / name).read_bytes(), f"{folder}/{name}"


@pytest.mark.parametrize("name", ["vectors", "base"])
def test_verify_names_the_file_that_changed(name, tmp_path):
    zoo, file = make_zoo(), tmp_path / f"zoo/{name}.safetensors"
    zoo.save(tmp_path / "zoo")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # one bit of one number
    Zoo.load(tmp_path / "zoo")
    for read in (Zoo.verify, open_zoo):
        with pytest.raises(CheckpointError, match=rf"{name}.safetensors is not the file that was saved; "
                           r"expected the sha256 in manifest.json; copy the zoo again"):  # fmt: skip
            read(tmp_path / "zoo")


def test_verify_names_an_exchanged_and_a_missing_file(tmp_path):
    make_zoo().save(tmp_path / "zoo")
    make_zoo(shift=1.0).save(tmp_path / "other")
    shutil.copy(tmp_path / "other/vectors.safetensors", tmp_path / "zoo")
    with pytest.raises(CheckpointError, match=r"zoo/vectors.safetensors is not the file that was saved"):
        Zoo.verify(tmp_path / "zoo")
    (tmp_path / "other/base.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"other/base.safetensors does not exist"):
        Zoo.verify(tmp_path / "other")


@given(st.data())
def test_indexing_is_that_of_a_list(data):
    zoo, numbers = make_zoo(), st.one_of(st.none(), st.integers(-8, 8))
    index = data.draw(st.one_of(
        st.builds(slice, numbers, numbers, numbers.filter(lambda step: step != 0)),
        st.lists(st.integers(-6, 5)),
        st.lists(st.booleans(), min_size=6, max_size=6),
    ))  # fmt: skip
    if isinstance(index, slice):
        rows = list(range(6))[index]
    elif index and isinstance(index[0], bool):
        rows = [i for i in range(6) if index[i]]
    else:
        rows = [i % 6 for i in index]
    part = zoo[index]
    assert torch.equal(part.vectors, zoo.vectors[torch.tensor(rows, dtype=torch.long)])
    assert [record.source for record in part.records] == [f"{i}.pt" for i in rows]


def test_indices_out_of_range_are_errors():
    with pytest.raises(IndexError):
        make_zoo()[[6]]
    with pytest.raises(IndexError):
        make_zoo()[[True, False]]


def test_a_trajectory_remains_one_only_in_order():
    zoo = make_zoo(trajectory=True)
    assert zoo[1:].trajectory and zoo[[0, 3, 4]].trajectory
    assert not zoo[::-1].trajectory and not zoo[[3, 1]].trajectory and not zoo[[1, 1]].trajectory
    assert not make_zoo()[1:].trajectory


def test_neighbours_share_memory():
    zoo = make_zoo()
    assert zoo[2:4].vectors.data_ptr() == zoo.vectors[2].data_ptr()


@given(st.integers(1, 40), st.data())
def test_subsample_of_a_trajectory_is_evenly_spaced_up_to_the_last(k, data):
    n = data.draw(st.integers(1, k))
    steps = [record.step // 10 for record in make_zoo(k, trajectory=True).subsample(n).records]
    gaps = {b - a for a, b in pairwise(steps)}
    assert len(steps) == n and steps[-1] == k - 1
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_subsample_of_independent_members_is_the_first_of_them():
    assert [record.step for record in make_zoo().subsample(3).records] == [0, 10, 20]
    with pytest.raises(ZooError, match="a subsample of 7 checkpoints; expected 1 to 6, the size of the zoo"):
        make_zoo().subsample(7)
    with pytest.raises(ZooError, match="a subsample of 0 checkpoints"):
        make_zoo().subsample(0)


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ("test > 0.3", [4, 5]),
        ("test > 0.1 and train >= 0.7", [2, 3]),
        ("test < 0.1 or step == 50", [0, 5]),
        ("not test > 0.1", [0, 1]),
        ("0.1 < test <= 0.3", [2, 3]),
        ("test > train", []),
        ("seed == 7 and step != 0 and test > -1", [1, 2, 3, 4, 5]),
    ],
)
def test_keep_filters_by_scores(condition, kept):
    zoo = make_zoo()
    if condition == "test > train":
        zoo, kept = make_zoo(8), [6, 7]
    assert [record.step // 10 for record in zoo.keep(condition).records] == kept


def test_keep_drops_members_without_the_score():
    zoo = make_zoo(3)
    del zoo.records[1].scores["test"]
    assert [record.step for record in zoo.keep("test >= 0").records] == [0, 20]
    assert [record.step for record in zoo.keep("not test > 1").records] == [0, 20]


def test_keep_names_unknown_scores_and_empty_results():
    with pytest.raises(
        ZooError,
        match="no member has a score 'tset'; expected one of seed, step, test, train; did you mean test",
    ):
        make_zoo().keep("tset > 0.5")
    with pytest.raises(ZooError, match="none of the 6 checkpoints passes 'test > 2'; loosen it"):
        make_zoo().keep("test > 2")


@pytest.mark.parametrize(
    "text",
    ["", "test", "test >", "0.5", "__import__('os').getcwd()", "test.real > 0", "test > '1'", "test > True",
     "(lambda: 1)() > 0", "test + 1 > 0", "test in [1]", "test > 0; step > 1", "[t for t in test] > 0",
     "a := 1", "not test", "test > 0 and train"],
)  # fmt: skip
def test_conditions_are_comparisons_and_nothing_else(text):
    with pytest.raises(ZooError, match="cannot understand the score filter"):
        ScoreFilter(text)


def test_merge_joins_members_and_records():
    one, two = make_zoo(2, trajectory=True), make_zoo(3, shift=0.5)
    both = Zoo.merge(one, two)
    assert torch.equal(both.vectors, torch.cat([one.vectors, two.vectors]))
    assert both.records == one.records + two.records
    assert not both.trajectory and both.about["notes"] == []
    assert Zoo.merge(one).trajectory


def test_merge_notes_different_frozen_rests_and_keeps_notes():
    one, two = make_zoo(2), make_zoo(2)
    two.base["fc.weight"] = two.base["fc.weight"] + 1
    two.about["notes"] = ["something"]
    assert Zoo.merge(one, two).about["notes"] == [
        "something", "the merged zoos differ outside the selection; the frozen rest is the first zoo's",
    ]  # fmt: skip


def test_merge_names_the_tensor_that_does_not_fit():
    with pytest.raises(
        ZooError, match=r"zoo 2 of 2 has fc.weight \[2, 3\] float32; expected norm.weight \[4\] float32"
    ):
        Zoo.merge(make_zoo(), make_zoo(select="all"))
    with pytest.raises(ZooError, match=r"zoo 3 of 3 has no further tensor; expected norm.bias \[4\] float32"):
        Zoo.merge(make_zoo(), make_zoo(), make_zoo(select="norm.weight"))
    with pytest.raises(ZooError, match="no zoo to merge"):
        Zoo.merge()


def test_unusable_says_why():
    assert make_zoo().unusable is None
    assert str(make_zoo(1).unusable).startswith("the zoo holds K = 1 checkpoint; expected at least 2")
    zoo = make_zoo(3)
    zoo.vectors[1, 5] = float("inf")
    assert str(zoo.unusable) == "1.pt holds NaN or Inf in norm.bias; remove that checkpoint"
    assert zoo.nonfinite() == [(1, "norm.bias")]
    still = make_zoo(3)
    still.vectors[:] = 1.0
    with pytest.raises(ZooError, match="all 3 checkpoints are identical in the selected tensors"):
        still.require_usable()
