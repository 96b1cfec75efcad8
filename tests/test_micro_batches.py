"""Which rows meet in a micro-batch, in what order, and how wide it is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from taskgym.training.micro_batches import (  # noqa: E402
    evened,
    longest_first,
    loss_mask,
    narrowed,
    packed,
    row_lengths,
    taken,
)


def batch() -> dict[str, Any]:
    prompt = torch.tensor([[0, 1, 1], [1, 1, 1], [0, 0, 1]])
    said = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]])
    return {
        "prompt_ids": prompt * 7,
        "prompt_mask": prompt,
        "completion_ids": said * 9,
        "completion_mask": said,
        "tool_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1], [1, 0, 1, 0]]),
        "advantages": torch.tensor([0.1, 0.2, 0.3]),
        "num_images": [1, 2, 3],
        "num_items_in_batch": torch.tensor(5),
        "token_type_ids": torch.arange(21).view(3, 7),
        "ref_per_token_logps": None,
    }


@given(st.lists(st.integers(1, 512), min_size=4, max_size=64), st.sampled_from([1, 2, 4]))
def test_dealt_out_anew_every_row_is_there_once_and_the_fullest_come_first(
    lengths: list[int], parts: int
) -> None:
    lengths = lengths[: len(lengths) // parts * parts]
    said = torch.tensor([[1] * n + [0] * (512 - n) for n in lengths])
    rows = {"prompt_mask": torch.ones(len(lengths), 3), "completion_mask": said, "who": lengths}
    rows |= {"num_items_in_batch": torch.tensor(5), "ref_per_token_logps": None}
    size = len(lengths) // parts
    dealt = evened([taken(rows, slice(i * size, (i + 1) * size)) for i in range(parts)])
    assert sorted(n for part in dealt for n in part["who"]) == sorted(lengths)
    for part in dealt:
        assert part["completion_mask"].sum(1).tolist() == part["who"] and len(part["who"]) == size
        assert part["num_items_in_batch"] == 5 and part["ref_per_token_logps"] is None
    sums = [sum(part["who"]) for part in dealt]
    assert sums == sorted(sums, reverse=True)
    assert sums[0] - sums[-1] <= max(lengths), "a better deal was there"


def test_rows_keep_together_when_they_are_ordered() -> None:
    ordered = longest_first(batch())  # 2 + 2, 3 + 1, 1 + 3 tokens that count: a tie stays as it was
    assert ordered["num_images"] == [1, 2, 3]
    other = batch()
    other["tool_mask"][2, 3] = 1
    ordered = longest_first(other)
    assert ordered["num_images"] == [3, 1, 2]
    assert ordered["advantages"].tolist() == pytest.approx([0.3, 0.1, 0.2])
    assert ordered["num_items_in_batch"] == 5 and ordered["ref_per_token_logps"] is None
    assert ordered["token_type_ids"][0, 0] == 14


def test_a_micro_batch_is_cut_to_its_longest_prompt_and_last_token_in_the_loss() -> None:
    rows = {k: v[::2] if torch.is_tensor(v) and v.ndim else v for k, v in batch().items()}
    cut = narrowed(rows)
    assert cut["prompt_ids"].tolist() == [[7, 7], [0, 7]]
    assert cut["completion_ids"].tolist() == [[9, 9, 0], [9, 9, 9]]
    assert cut["token_type_ids"].tolist() == [[1, 2, 3, 4, 5], [15, 16, 17, 18, 19]]
    assert loss_mask(cut).sum() == loss_mask(rows).sum()


def of_lengths(prompts: list[int], said: list[int]) -> dict[str, Any]:
    def masks(lengths: list[int]) -> Any:
        return torch.tensor([[1] * n + [0] * (40 - n) for n in lengths])

    return longest_first({"prompt_mask": masks(prompts), "completion_mask": masks(said)})


LENGTHS = st.tuples(st.integers(1, 20), st.integers(0, 40))


@given(processes=st.integers(1, 3), rows=st.integers(1, 8), data=st.data())
def test_no_micro_batch_of_any_process_takes_more_memory_than_one_of_the_longest_rows(
    processes: int, rows: int, data: st.DataObject
) -> None:
    size = data.draw(st.integers(1, 30))
    lists = [data.draw(st.lists(LENGTHS, min_size=size, max_size=size)) for _ in range(processes)]
    each = [row_lengths(of_lengths(*map(list, zip(*lengths, strict=True)))) for lengths in lists]
    longest = torch.stack(each).amax(0)
    parts = packed(longest, rows, 15)
    assert [i for part in parts for i in range(part.start, part.stop)] == [*range(size)]
    assert len(parts) <= -(-size // rows)
    prompt, said = longest.amax(1).tolist()
    for lengths in each:
        for part in parts:
            taken = (part.stop - part.start) * lengths[:, part].amax(1).sum()
            assert taken <= rows * (prompt + max(15, said))


def test_rows_half_as_long_share_a_micro_batch_twice_as_often() -> None:
    batch = of_lengths([10] * 10, [30] * 2 + [10] * 8)
    parts = packed(row_lengths(batch), 2, 30)
    assert [part.stop - part.start for part in parts] == [2, 4, 4]


def test_a_micro_batch_without_a_loss_keeps_one_token() -> None:
    rows = batch()
    rows["tool_mask"] = torch.zeros_like(rows["tool_mask"])
    assert narrowed(rows)["completion_ids"].shape == (3, 1)
